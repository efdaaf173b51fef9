"""No table: Django's admin and permissions are made of models, and tasks live in the service."""

from typing import Any

from django.db import models


class NoRows(models.Manager):
    """Finds nothing, and does not ask the database, for `dumpdata` and the like read all models."""

    def get_queryset(self) -> Any:
        return super().get_queryset().none()


class Task(models.Model):
    """A task of the service, for the admin."""

    id = models.CharField(primary_key=True, max_length=63)

    objects = NoRows()

    class Meta:
        managed = False
        base_manager_name = "objects"
        # Whoever may change a task may cancel and retry it.
        default_permissions = ("view", "change")

    def __str__(self) -> str:
        return self.id
