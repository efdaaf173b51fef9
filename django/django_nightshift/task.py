"""The task class: what Nightshift can do for a task beyond Django's own options."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any

from asgiref.sync import sync_to_async
from django.core.exceptions import SuspiciousOperation
from django.utils import timezone
from django.utils.module_loading import import_string

from .compat import BaseTask

#: What `using` takes beyond the framework's options.
OWN_OPTIONS = (
    "timeout",
    "max_attempts",
    "backoff",
    "unique_key",
    "expires_at",
    "enqueue_on_commit",
)


@dataclass(frozen=True, kw_only=True)
class Task(BaseTask):
    """A task with Nightshift's options, set by `.using(...)` or, from Django 6.1 on, `@task(...)`.

    What is left out comes from the backend's options.
    """

    #: Seconds that one attempt may take.
    timeout: float | None = field(default=None, repr=False)
    #: How often the task is tried in all, 1 to 100.
    max_attempts: int | None = field(default=None, repr=False)
    #: `{"initial_seconds": 5, "factor": 2, "max_seconds": 3600, "jitter": 0.2}`, or part of it.
    backoff: Mapping[str, float] | None = field(default=None, repr=False)
    #: While a task with this key waits or runs, enqueuing another answers with that one.
    unique_key: str | None = field(default=None, repr=False)
    #: A task that has not started by then fails with TaskExpired.
    expires_at: datetime | None = field(default=None, repr=False)
    #: Whether the task waits for the commit of the transaction in which it is enqueued.
    enqueue_on_commit: bool | None = field(default=None, repr=False)

    def using(self, **changes: Any) -> "Task":
        """A copy with these options; None leaves one as it is."""
        own = {
            name: value for name in OWN_OPTIONS if (value := changes.pop(name, None)) is not None
        }
        # The framework checks the names of the others.
        changed = BaseTask.using(self, **changes)
        if own:
            changed = copy_task(changed, **own)
            changed.get_backend().validate_task(changed)
        return changed

    def enqueue_many(self, calls: Iterable[Any]) -> list[Any]:
        """Enqueues the task once for each call, with few requests; answers the results in order.

        A call is a list or tuple of positional arguments, or a dict of named ones. Up to 1,000
        tasks, or a MiB of them, are stored together or not at all; the next ones follow. Their
        `enqueued_at` is by this machine's clock until they are refreshed. All else is as with
        `enqueue`, the wait for the commit as well.
        """
        return self.get_backend().enqueue_many(self, calls)

    async def aenqueue_many(self, calls: Iterable[Any]) -> list[Any]:
        """As `enqueue_many`, without blocking the event loop."""
        return await sync_to_async(self.enqueue_many, thread_sensitive=True)(list(calls))


def copy_task(task: Any, **changes: Any) -> Any:
    """A copy that is not validated again: its queue may be gone from the settings by now."""
    copy = object.__new__(type(task))
    for one in fields(task):
        value = changes[one.name] if one.name in changes else getattr(task, one.name)
        object.__setattr__(copy, one.name, value)
    return copy


def resolve_run_after(task: Any) -> Any:
    """The task with a time for a `timedelta` from now on."""
    if isinstance(task.run_after, timedelta):
        return copy_task(task, run_after=timezone.now() + task.run_after)
    return task


def registered_task(module_path: str) -> Any:
    """The task of that path.

    Raises ImportError where there is nothing, and SuspiciousOperation where there is something
    else: what is not marked as a task is never run, whoever asks.
    """
    task = import_string(module_path)
    if not isinstance(task, BaseTask):
        raise SuspiciousOperation(f"{module_path!r} is not a task")
    return task


def known_or_missing_task(module_path: str, alias: str) -> Any:
    """The task of that path, or one that stands for it where it was renamed or deleted."""
    try:
        return registered_task(module_path)
    except Exception:  # whatever its module raises, the result can be read
        return _missing_task(module_path, alias)


def _missing_task(module_path: str, alias: str) -> Any:
    task = object.__new__(Task)
    for one in fields(Task):
        object.__setattr__(task, one.name, None if one.default is MISSING else one.default)
    object.__setattr__(task, "priority", 0)
    object.__setattr__(task, "backend", alias)
    object.__setattr__(task, "func", _missing_function(module_path))
    return task


def _missing_function(module_path: str) -> Callable[..., Any]:
    def missing(*_args: Any, **_kwargs: Any) -> None:
        raise ImportError(f"there is no task {module_path!r} any more")

    module, _, name = module_path.rpartition(".")
    missing.__module__, missing.__name__, missing.__qualname__ = module, name, name
    return missing
