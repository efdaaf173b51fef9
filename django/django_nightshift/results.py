"""What the service says of a task, as the framework's result."""

import asyncio
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.conf import settings
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.module_loading import import_string

from .client import Service, task_url
from .compat import (
    REFRESHED,
    STATUS,
    BaseTaskResult,
    TaskError,
    TaskResultDoesNotExist,
    empty_result_fields,
    task_backends,
    task_finished,
)
from .exceptions import (
    CLASS_BY_KIND,
    RemoteTaskError,
    ServiceRefused,
    TaskAlreadyFinished,
    class_path,
)

#: The longest that the service lets a request wait, in seconds.
WAIT_MAX = 60
#: How often it is asked within the last second.
LAST_PAUSE = 0.1
LOG_LINES_A_PAGE = 1000


class Progress(NamedTuple):
    """How far a running task is, in its own words."""

    #: 0 to 1, or None.
    fraction: float | None
    message: str | None


class LogLine(NamedTuple):
    """A line that a task wrote through `logging`."""

    at: datetime
    #: `debug`, `info`, `warning` or `error`.
    level: str
    message: str
    #: The attempt that wrote it, from 1.
    attempt: int


class Log(list[LogLine]):
    """The lines of a task, and how many there are no more."""

    #: Lines before these that were left out: a log keeps its last 10,000 lines or 4 MiB.
    dropped: int = 0

    def take(self, page: dict[str, Any]) -> Any:
        """Adds a page of the service's, and answers the cursor of the next one."""
        self.extend(map(_log_line, page["items"]))
        self.dropped = page["dropped"]
        return page["next_cursor"]

    def __repr__(self) -> str:
        return f"Log({super().__repr__()}, dropped={self.dropped})"


# With slots where the base has them: without, its defaults would not be set.
@dataclass(
    frozen=True,
    kw_only=True,
    slots="__slots__" in vars(BaseTaskResult),  # type: ignore[literal-required]
)
class TaskResult(BaseTaskResult):
    """The framework's result, and what the service knows beyond it."""

    #: How far the task is; None while it has not said.
    progress: Progress | None = field(init=False, default=None, repr=False)

    def refresh(self) -> None:
        """Asks the service for the state that the task has now."""
        self._take(self._backend.get_result(self.id))

    async def arefresh(self) -> None:
        self._take(await self._backend.aget_result(self.id))

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the end, for at most so many seconds, and says whether it has come."""
        for pause, seconds in self._waits(timeout):
            time.sleep(pause)
            if self._take(self._backend.get_result(self.id, wait=seconds)):
                return True
        return False

    async def await_(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        """As `wait`, without blocking the event loop."""
        for pause, seconds in self._waits(timeout):
            await asyncio.sleep(pause)
            if self._take(await self._backend.aget_result(self.id, wait=seconds)):
                return True
        return False

    def cancel(self) -> None:
        """Cancels the task: one that waits at once; one that runs is stopped by its worker.

        Django knows no word for it: the status becomes FAILED, with TaskCancelled as the error.
        A task that is cancelled already stays so. Raises TaskAlreadyFinished when it has ended in
        another way. `task_finished` is sent here for a task that waited, and by the worker for one
        that ran.
        """
        had_ended = self.is_finished
        with _refusals(self.id):
            record = self._service.request("POST", task_url(self.id, "/cancel"))
        if self._take(self._backend.result_of(record)) and not had_ended:
            task_finished.send_robust(sender=type(self._backend), task_result=self)

    async def acancel(self) -> None:
        """As `cancel`, without blocking the event loop."""
        had_ended = self.is_finished
        with _refusals(self.id):
            record = await self._service.arequest("POST", task_url(self.id, "/cancel"))
        if self._take(self._backend.result_of(record)) and not had_ended:
            await task_finished.asend_robust(sender=type(self._backend), task_result=self)

    @property
    def logs(self) -> "Log":
        """The lines that the task has written, oldest first. Asks the service each time.

        `logs.dropped` counts older lines that the service no longer keeps.
        """
        log = Log()
        cursor: str | None = ""
        while cursor is not None:
            with _refusals(self.id):
                page = self._service.request(
                    "GET", task_url(self.id, "/logs"), params=_log_page(cursor)
                )
            cursor = log.take(page)
        return log

    async def alogs(self) -> "Log":
        """As `logs`, without blocking the event loop."""
        log = Log()
        cursor: str | None = ""
        while cursor is not None:
            with _refusals(self.id):
                page = await self._service.arequest(
                    "GET", task_url(self.id, "/logs"), params=_log_page(cursor)
                )
            cursor = log.take(page)
        return log

    def _waits(self, timeout: float | None) -> Iterator[tuple[float, int]]:
        return _waits(timeout if self._backend.runs_elsewhere else 0)

    @property
    def _backend(self) -> Any:
        return task_backends[self.backend]

    @property
    def _service(self) -> Service:
        return self._backend.service

    def _take(self, other: "TaskResult") -> bool:
        """Takes another one's state, and says whether the task has ended."""
        for name in {*REFRESHED, "progress"}:
            object.__setattr__(self, name, getattr(other, name))
        return self.is_finished


class _refusals:  # noqa: N801
    """Turns the service's refusals into the framework's exceptions."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: Any, error: BaseException | None, _traceback: Any) -> None:
        if isinstance(error, ServiceRefused):
            if error.code == "task_not_found":
                raise TaskResultDoesNotExist(self.task_id) from error
            if error.code == "task_finished":
                raise TaskAlreadyFinished(error.detail) from error


def _waits(timeout: float | None) -> Iterator[tuple[float, int]]:
    """For each of several requests, the pause before it and how long it may wait.

    The service waits for whole seconds only.
    """
    deadline = time.monotonic() + (math.inf if timeout is None else timeout)
    left = deadline - time.monotonic()
    yield 0, int(min(max(left, 0), WAIT_MAX))
    while (left := deadline - time.monotonic()) > 0:
        yield (0, int(min(left, WAIT_MAX))) if left >= 1 else (min(left, LAST_PAUSE), 0)


def _log_page(cursor: str) -> dict[str, Any]:
    page = {"limit": LOG_LINES_A_PAGE}
    return {**page, "cursor": cursor} if cursor else page


def _log_line(line: dict[str, Any]) -> LogLine:
    return LogLine(parse_required(line["at"]), line["level"], line["message"], line["attempt"])


def result_of(record: dict[str, Any], task: Any, alias: str) -> TaskResult:
    """The service's record as a result of that task."""
    fields_of_all = {
        "task": task,
        "id": record["id"],
        "status": status_of(record),
        "enqueued_at": parse_time(record["enqueued_at"]),
        "started_at": parse_time(record["started_at"]),
        "finished_at": parse_time(record["finished_at"]),
        "args": record["args"],
        "kwargs": record["kwargs"],
        "backend": alias,
    }
    errors = [_error(error) for error in record["errors"]]
    if TaskError is None:
        result = TaskResult(**fields_of_all)
        if errors and result.is_finished and record["status"] != "SUCCESSFUL":
            path, traceback = errors[-1]
            object.__setattr__(result, "_exception_class", _importable(path))
            object.__setattr__(result, "_traceback", traceback)
    else:
        own = empty_result_fields()
        own["last_attempted_at"] = parse_time(record["last_attempted_at"])
        own["errors"] = [TaskError(exception_class_path=p, traceback=t) for p, t in errors]
        own["worker_ids"] = record["worker_ids"]
        result = TaskResult(**fields_of_all, **own)
    object.__setattr__(result, "_return_value", record["return_value"])
    if record["progress"] is not None:
        progress = Progress(record["progress"]["fraction"], record["progress"]["message"])
        object.__setattr__(result, "progress", progress)
    return result


def status_of(record: dict[str, Any]) -> Any:
    """The framework's word; for a word of a later service, what comes nearest."""
    fallback = "FAILED" if record["finished_at"] else "READY"
    return STATUS.get(record["status"], STATUS[fallback])


def _error(error: dict[str, Any]) -> tuple[str, str]:
    """The class path and the traceback of an attempt's error."""
    own = CLASS_BY_KIND.get(error["kind"], RemoteTaskError)
    path = error["exception_class_path"] or class_path(own)
    traceback = error["traceback"] or f"{path}: {error['message']}\n"
    return path, traceback


def _importable(path: str) -> type[BaseException]:
    try:
        error_class = import_string(path)
    except ImportError:
        return RemoteTaskError
    is_error = isinstance(error_class, type) and issubclass(error_class, BaseException)
    return error_class if is_error else RemoteTaskError


def parse_time(text: str | None) -> datetime | None:
    return None if text is None else parse_required(text)


def parse_required(text: str) -> datetime:
    instant = parse_datetime(text)
    if instant is None:
        raise ValueError(f"the service sent a time that is none: {text!r}")
    return instant if settings.USE_TZ else timezone.make_naive(instant)
