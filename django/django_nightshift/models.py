"""No table: Django's admin and permissions are made of models, and tasks live in the service."""

from django.db import models


class Task(models.Model):
    """A task of the service, for the admin."""

    id = models.CharField(primary_key=True, max_length=63)

    class Meta:
        managed = False
        # Whoever may change a task may cancel and retry it.
        default_permissions = ("view", "change")

    def __str__(self) -> str:
        return self.id
