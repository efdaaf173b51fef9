"""What goes wrong with tasks and with the service.

A task's errors name classes by their path (`errors[0].exception_class_path`). Where the service,
and not the task's own code, ended an attempt, they name one of the classes below
[`RemoteTaskError`][].
"""


class NightshiftError(Exception):
    """Base class of all that the service refuses or cannot do."""


class ServiceUnavailable(NightshiftError):
    """The service did not answer in time. Nothing is known to be stored; trying again is safe."""


class ServiceRefused(NightshiftError):
    """The service refused the request, and said why."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.status = status
        #: Stable, as in the service's list of errors: `task_not_found`, say.
        self.code = code
        self.detail = detail


class TaskAlreadyFinished(NightshiftError):
    """A task that has ended cannot be cancelled."""


class RemoteTaskError(Exception):
    """The task failed in an executor that named no Python class."""


class TaskTimeout(TimeoutError):
    """An attempt took longer than the task's timeout, or than the worker's."""


class WorkerLost(Exception):
    """Whoever ran the attempt was not heard of again, or its process died."""


class TaskCancelled(Exception):
    """Somebody cancelled the task."""


class TaskExpired(Exception):
    """The task had not started when it expired."""


#: The class for each `kind` of error that carries no class of its own.
CLASS_BY_KIND: dict[str, type[Exception]] = {
    "timeout": TaskTimeout,
    "lost": WorkerLost,
    "cancelled": TaskCancelled,
    "expired": TaskExpired,
}


def class_path(error_class: type[BaseException]) -> str:
    """Where the class can be imported from."""
    return f"{error_class.__module__}.{error_class.__qualname__}"
