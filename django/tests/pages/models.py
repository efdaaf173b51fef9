from django.db import models


class Page(models.Model):
    """What editors change."""

    title = models.CharField(max_length=100)

    def __str__(self):
        return self.title


class Entry(models.Model):
    """What the search finds."""

    page = models.OneToOneField(Page, models.CASCADE)
    title = models.CharField(max_length=100)

    def __str__(self):
        return self.title
