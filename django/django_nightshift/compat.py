"""One set of names over Django's own tasks and each version of django-tasks since 0.6.

Django 6 has `django.tasks`; on older ones the package django-tasks has the same API, under names
that changed with its versions. Nothing else in this package looks at versions.
"""

import json
from importlib import import_module
from importlib.util import find_spec
from typing import Any

FRAMEWORK = "django.tasks" if find_spec("django.tasks") else "django_tasks"


def _module(*names: str) -> Any:
    for name in names:
        if find_spec(f"{FRAMEWORK}.{name}"):
            return import_module(f"{FRAMEWORK}.{name}")
    raise ImportError(f"none of {names} is in {FRAMEWORK}")


def _first(module: Any, *names: str) -> Any:
    for name in names:
        if hasattr(module, name):
            return getattr(module, name)
    return None


try:
    _framework = import_module(FRAMEWORK)
except ImportError as error:
    raise ImportError(
        "django-nightshift needs Django 6, or django-tasks beside Django 5.2: "
        "pip install 'django-nightshift[tasks]'"
    ) from error

_base = _module("base", "task")
_exceptions = _module("exceptions")
_signals = _module("signals")
# Receivers that write the framework's log lines.
if find_spec(f"{FRAMEWORK}.signal_handlers"):
    import_module(f"{FRAMEWORK}.signal_handlers")

task_backends: Any = _first(_framework, "task_backends", "tasks")
BaseTaskBackend: Any = _module("backends.base").BaseTaskBackend
BaseTask: Any = _base.Task
BaseTaskResult: Any = _base.TaskResult
REFRESHED: set[str] = _base.TASK_REFRESH_ATTRS

DEFAULT_BACKEND_ALIAS = "default"
DEFAULT_QUEUE_NAME = "default"
#: The logger that shows `Task id=... path=... state=...`.
TASKS_LOGGER = FRAMEWORK

Status: Any = _first(_base, "TaskResultStatus", "ResultStatus")
#: The framework's word for each of the service's. It has no word for a cancelled task.
STATUS: dict[str, Any] = {
    "READY": _first(Status, "READY", "NEW"),
    "RUNNING": Status.RUNNING,
    "SUCCESSFUL": _first(Status, "SUCCESSFUL", "SUCCEEDED"),
    "FAILED": Status.FAILED,
    "CANCELLED": Status.FAILED,
}

#: None before 0.8: a result has one `exception_class` and one `traceback` then.
TaskError: Any = _first(_base, "TaskError")
#: None before 0.8: tasks take no context then.
TaskContext: Any = _first(_base, "TaskContext")


def empty_result_fields() -> dict[str, Any]:
    """What a result has beside the fields that all versions have, as of a new task."""
    if TaskError is None:
        return {}
    fields: dict[str, Any] = {"last_attempted_at": None, "errors": [], "worker_ids": []}
    # In 0.11 only.
    return {**fields, "metadata": {}} if "metadata" in REFRESHED else fields


TaskResultDoesNotExist: Any = _first(_exceptions, "TaskResultDoesNotExist", "ResultDoesNotExist")
InvalidTask: Any = _first(_exceptions, "InvalidTask", "InvalidTaskError")
InvalidTaskBackend: Any = _first(_exceptions, "InvalidTaskBackend", "InvalidTaskBackendError")

task_enqueued: Any = _signals.task_enqueued
task_finished: Any = _signals.task_finished
#: None before 0.8.
task_started: Any = _first(_signals, "task_started")


def _normalize() -> Any:
    if FRAMEWORK == "django.tasks":
        return import_module("django.utils.json").normalize_json
    return getattr(_module("utils"), "normalize_json", None)


_normalize_json: Any = _normalize()


def to_json(value: Any) -> str:
    """The value as JSON text, by the framework's rules of what may be a task's value.

    Raises TypeError for what is not JSON, and ValueError for NaN and infinities, which the
    framework lets through and RFC 8259 does not know.
    """
    if _normalize_json is not None:
        value = _normalize_json(value)
    return json.dumps(value, allow_nan=False)
