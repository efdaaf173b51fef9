"""A worker process: runs one task after the other, and can be interrupted or killed."""

import io
import multiprocessing
import os
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple

import django

from ..exceptions import TaskCancelled, TaskTimeout
from .forked import at_fork, leave

if TYPE_CHECKING:
    from .reload import Imports

#: Why a task is interrupted, and what is raised in it.
CANCELLED, TIMEOUT, HURRY = 1, 2, 3
INTERRUPTS: dict[int, type[BaseException]] = {
    CANCELLED: TaskCancelled,
    TIMEOUT: TaskTimeout,
    HURRY: SystemExit,
}
MESSAGES = {
    CANCELLED: "the task was cancelled",
    TIMEOUT: "the task took too long",
    HURRY: "the worker was stopped",
}
INTERRUPT_SIGNAL = signal.SIGUSR1


class Orders(NamedTuple):
    """What a process is told at its start."""

    alias: str
    verbosity: int
    #: How the worker's own code would start processes; None for Python's default.
    start_method: str | None
    #: Whether the worker wants to know which files are imported.
    report_files: bool
    #: Whether the worker shows what is written to the terminal elsewhere.
    report_lines: bool


def main(connection: Connection, alive: Connection, why: Any, orders: Orders) -> None:
    """Runs what comes over the connection, until it closes.

    It first sends its pidfd, where there are any, and `("ready",)`. A message to it is `("run",
    record)`, and answered by `("progress", fraction, message)`, `("log", line)` and at the end
    `("done", outcome)`; or `("tell", record)` of a task that has ended, answered by `("done",
    None)`. Beside these it sends `("files", files)` and `("line", text)` where it is ordered to.
    `why` is shared with the worker.
    """
    # Ctrl+C in a terminal is for the worker alone, and what a task starts can be killed with it.
    os.setpgid(0, 0)
    reporter = _Reporter(connection, why)
    _listen_for_signals(reporter)
    threading.Thread(target=_die_with_the_worker, args=(alive,), daemon=True).start()
    _send_pidfd(connection)

    def release() -> None:
        reporter.is_forked = True
        connection.close()
        alive.close()

    at_fork(lambda handler: handler in (_ignore, reporter.interrupt), release)
    # This process's own way of starting others is not that of the task's code.
    multiprocessing.set_start_method(orders.start_method, force=True)
    django.setup()

    from django.db import connections

    from ..backend import nightshift_backend
    from ..context import send_logs_along
    from ..execute import execute, tell_of_end
    from .logs import configure_logging
    from .reload import Imports

    # Whatever was opened before the fork belongs to the other process.
    connections.close_all()
    configure_logging(orders.verbosity, _Lines(reporter) if orders.report_lines else None)
    send_logs_along()
    reporter.imports = Imports() if orders.report_files else None
    backend = nightshift_backend(orders.alias)
    connection.send(("ready",))
    while True:
        try:
            what, record = connection.recv()
        except EOFError:
            return
        # The task before may have changed them.
        _listen_for_signals(reporter)
        outcome = None
        if what == "tell":
            tell_of_end(backend, record)
        else:
            outcome = execute(backend, record, reporter)
        reporter.files()
        connection.send(("done", outcome))


def _ignore(*_signal: Any) -> None:
    pass


def _listen_for_signals(reporter: "_Reporter") -> None:
    # A signal to all processes of a service means the worker, which then says what is to be done.
    # Not SIG_IGN: a program that a task starts would inherit that.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, _ignore)
    signal.signal(INTERRUPT_SIGNAL, reporter.interrupt)


def _send_pidfd(connection: Connection) -> None:
    """Hands the worker what stands for this process and for no later one with its number."""
    try:
        pidfd = os.pidfd_open(os.getpid())
    except (AttributeError, OSError):
        # Not Linux, or an old one.
        connection.send(False)
        return
    connection.send(True)
    reduction.send_handle(connection, pidfd, None)
    os.close(pidfd)


class _Reporter:
    """Sends what the task says to the worker, and raises in it what the worker says."""

    def __init__(self, connection: Connection, why: Any) -> None:
        self.connection = connection
        self.why = why
        self.interruptible = False
        self.sending = False
        #: This is a process that a task forked.
        self.is_forked = False
        self.imports: Imports | None = None
        # A task may log from threads of its own.
        self.lock = threading.Lock()

    def begin(self) -> None:
        # Its module has been imported, and it may run for long.
        self.files()
        self.interruptible = True
        self.interrupt()

    def end(self) -> None:
        self.interruptible = False
        if self.is_forked:
            # Or two processes would be the worker's one.
            leave()

    def interrupt(self, *_signal: Any) -> None:
        # Never in the middle of a message.
        if self.interruptible and not self.sending and self.why.value:
            # Once: what the task does about it is its own affair until it is killed.
            self.interruptible = False
            raise INTERRUPTS[self.why.value](MESSAGES[self.why.value])

    def progress(self, fraction: float | None, message: str | None) -> None:
        self._send(("progress", fraction, message))

    def log(self, line: dict[str, str]) -> None:
        self._send(("log", line))

    def line(self, text: str) -> None:
        """Shows what is written to the terminal; not to the task's log."""
        if self.is_forked:
            sys.stdout.write(text)
        else:
            self._send(("line", text))

    def files(self) -> None:
        if self.imports is not None and (files := self.imports.new()):
            self._send(("files", files))

    def cancelled(self) -> bool:
        return bool(self.why.value)

    def _send(self, message: tuple[Any, ...]) -> None:
        if self.is_forked:
            # Messages of two processes would run into one another.
            return
        if threading.current_thread() is not threading.main_thread():
            with self.lock:
                self.connection.send(message)
            return
        self.sending = True
        try:
            with self.lock:
                self.connection.send(message)
        finally:
            self.sending = False
        self.interrupt()


class _Lines(io.TextIOBase):
    """A stream for log lines, which the worker writes."""

    def __init__(self, reporter: _Reporter) -> None:
        self.reporter = reporter

    def write(self, text: str) -> int:
        self.reporter.line(text)
        return len(text)


def _die_with_the_worker(alive: Connection) -> None:
    """A worker that is killed takes its processes along: nobody would hear of their tasks."""
    with suppress(EOFError, OSError):
        alive.recv()
    os.killpg(0, signal.SIGKILL)
