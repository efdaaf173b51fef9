"""Runs one attempt of a task in this process, and says how it ended."""

import json
import logging
import traceback
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.db import close_old_connections
from django.utils import timezone

from .backend import BACKEND_LABEL, NightshiftBackend, nightshift_backends
from .compat import (
    STATUS,
    TASKS_LOGGER,
    TaskError,
    task_finished,
    task_started,
    to_json,
)
from .context import NightshiftContext, Reporter, reporting
from .exceptions import class_path
from .results import TaskResult
from .task import registered_task

logger = logging.getLogger("django_nightshift.worker")
tasks_logger = logging.getLogger(TASKS_LOGGER)

# What the service keeps of an error; no more is sent.
MESSAGE_CHARS_MAX = 4_096
TRACEBACK_CHARS_MAX = 16_384


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: one of the two."""

    #: The return value as JSON text.
    return_value: str | None = None
    #: What the service wants to know of an exception.
    error: dict[str, Any] | None = None
    #: Whether there was such a task.
    found: bool = True
    #: Whether `task_finished` has been sent, or need not be.
    told: bool = True

    @classmethod
    def of(
        cls,
        error: BaseException,
        *,
        retryable: bool = True,
        found: bool = True,
        told: bool = True,
    ) -> "Outcome":
        """The end by this exception."""
        report: dict[str, Any] = {
            "exception_class_path": class_path(type(error)),
            "message": _message(error)[:MESSAGE_CHARS_MAX],
            # The end is what says most.
            "traceback": _traceback(error)[-TRACEBACK_CHARS_MAX:],
        }
        if not retryable:
            report["retryable"] = False
        return cls(error=report, found=found, told=told)

    def body(self) -> bytes:
        """What a lease is finished with."""
        if self.error is not None:
            return json.dumps({"error": self.error}).encode()
        return f'{{"return_value": {self.return_value}}}'.encode()


def execute(backend: NightshiftBackend, record: dict[str, Any], reporter: Reporter) -> Outcome:
    """Runs the task of the record.

    Only tasks are run, never any other function. Whatever the task raises, SystemExit and
    KeyboardInterrupt too, is its outcome and not this process's.
    """
    close_old_connections()
    backend = _enqueued_by(backend, record)
    try:
        path = backend.nightshift.module_path(record["task_path"])
        try:
            task = registered_task(path)
        except Exception as error:  # whatever its module raises
            logger.exception("Task id=%s failed unexpectedly", record["id"])
            retryable = not isinstance(error, SuspiciousOperation)
            return Outcome.of(error, retryable=retryable, found=False)
        return _run(backend, task, backend.result_of(record), reporter)
    finally:
        close_old_connections()


def _enqueued_by(backend: NightshiftBackend, record: dict[str, Any]) -> NightshiftBackend:
    """The backend of the alias that the task was enqueued with, where its tasks are run here."""
    alias = record.get("labels", {}).get(BACKEND_LABEL)
    for other in nightshift_backends():
        if other.alias == alias and other.nightshift.executor == backend.nightshift.executor:
            return other
    return backend


def tell_of_end(backend: NightshiftBackend, record: dict[str, Any]) -> None:
    """Sends `task_finished` for a task that has ended in a process that could not."""
    close_old_connections()
    backend = _enqueued_by(backend, record)
    try:
        task_finished.send_robust(sender=type(backend), task_result=backend.result_of(record))
    finally:
        close_old_connections()


def _run(backend: NightshiftBackend, task: Any, result: TaskResult, reporter: Reporter) -> Outcome:
    sender = type(backend)
    try:
        if task_started is None:
            tasks_logger.info("Task id=%s path=%s state=%s", *_line(result))
        else:
            task_started.send_robust(sender=sender, task_result=result)
        arguments = result.args
        if getattr(task, "takes_context", False):
            arguments = [NightshiftContext(task_result=result), *arguments]
        with reporting(reporter):
            value = task.call(*arguments, **result.kwargs)
        outcome = Outcome(return_value=to_json(value))
        _finish(result, "SUCCESSFUL", value)
    except BaseException as error:
        _finish(result, "FAILED", None)
        _add_error(result, error)
        # Inside the handler, so that receivers and log lines have the traceback.
        task_finished.send_robust(sender=sender, task_result=result)
        return Outcome.of(error)
    task_finished.send_robust(sender=sender, task_result=result)
    return outcome


def _line(result: TaskResult) -> tuple[str, str, Any]:
    return result.id, result.task.module_path, result.status


def _finish(result: TaskResult, status: str, value: Any) -> None:
    now: datetime = timezone.now()
    object.__setattr__(result, "status", STATUS[status])
    object.__setattr__(result, "finished_at", now)
    object.__setattr__(result, "_return_value", value)


def _add_error(result: TaskResult, error: BaseException) -> None:
    path, text = class_path(type(error)), _traceback(error)
    if TaskError is not None:
        result.errors.append(TaskError(exception_class_path=path, traceback=text))
    else:
        object.__setattr__(result, "_exception_class", type(error))
        object.__setattr__(result, "_traceback", text)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:
        return f"<its text cannot be had: {type(failure).__name__}>"


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))
