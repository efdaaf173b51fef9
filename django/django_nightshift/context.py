"""What a task can say and ask while it runs."""

import logging
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Protocol

from .compat import TaskContext

#: The service's levels, by the least of `logging`'s numbers.
LEVELS = [(logging.ERROR, "error"), (logging.WARNING, "warning"), (logging.INFO, "info")]


class Reporter(Protocol):
    """Where a running attempt's words go."""

    def begin(self) -> None:
        """The task's own code starts; may raise in its place."""

    def end(self) -> None:
        """The task's own code is over."""

    def progress(self, fraction: float | None, message: str | None) -> None: ...

    def log(self, line: dict[str, str]) -> None: ...

    def cancelled(self) -> bool: ...


_current: ContextVar[Reporter | None] = ContextVar("nightshift_reporter", default=None)


def set_progress(fraction: float | None = None, message: str | None = None) -> None:
    """Says how far the running task is: 0 to 1, and in words of at most 1,000 characters.

    It is shown within a few seconds. Does nothing outside a Nightshift worker, so that tasks can
    be called directly. Raises ValueError for a fraction outside 0 to 1.
    """
    if fraction is not None and not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be from 0 to 1, not {fraction!r}")
    reporter = _current.get()
    if reporter is not None:
        reporter.progress(None if fraction is None else float(fraction), message)


def is_cancelled() -> bool:
    """Whether the running task should stop, because it was cancelled or took too long.

    Only a task in a thread needs to ask: one in a process is interrupted.
    """
    reporter = _current.get()
    return reporter is not None and reporter.cancelled()


if TaskContext is None:
    NightshiftContext: Any = None
else:

    @dataclass(frozen=True, kw_only=True)
    class NightshiftContext(TaskContext):  # type: ignore[no-redef]
        """The first argument of a task that takes the context."""

        def set_progress(self, fraction: float | None = None, message: str | None = None) -> None:
            """See `django_nightshift.set_progress`."""
            set_progress(fraction, message)

        @property
        def cancelled(self) -> bool:
            """See `django_nightshift.is_cancelled`."""
            return is_cancelled()


class reporting:  # noqa: N801
    """While the block runs, this thread's words go to the reporter."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter

    def __enter__(self) -> None:
        self.token = _current.set(self.reporter)
        self.reporter.begin()

    def __exit__(self, *_error: Any) -> None:
        self.reporter.end()
        _current.reset(self.token)


class TaskLogHandler(logging.Handler):
    """Sends what a task logs along to the service."""

    def emit(self, record: logging.LogRecord) -> None:
        reporter = _current.get()
        if reporter is not None:
            reporter.log(
                {
                    "at": datetime.fromtimestamp(record.created, timezone.utc).isoformat(),
                    "level": next((n for least, n in LEVELS if record.levelno >= least), "debug"),
                    "message": self.format(record),
                }
            )
        # As without this handler, what nobody prints is printed if it is a warning.
        last = logging.lastResort
        if last is not None and record.levelno >= last.level and self._is_alone(record):
            last.handle(record)

    def _is_alone(self, record: logging.LogRecord) -> bool:
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return False
            logger = logger.parent if logger.propagate else None
        return True


def send_logs_along() -> None:
    """From now on, what running tasks log goes to the service too."""
    root = logging.getLogger()
    if not any(isinstance(handler, TaskLogHandler) for handler in root.handlers):
        root.addHandler(TaskLogHandler())
