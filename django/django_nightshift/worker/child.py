"""A worker process: runs one task after the other, and can be interrupted or killed."""

import os
import signal
import threading
from multiprocessing.connection import Connection
from typing import Any

import django

from ..exceptions import TaskCancelled, TaskTimeout

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


def main(connection: Connection, alive: Connection, why: Any, alias: str, verbosity: int) -> None:
    """Runs what comes over the connection, until it closes.

    Each message is a task's record. The answers are `("progress", fraction, message)`,
    `("log", line)` and at the end `("done", outcome)`. `why` is shared with the worker.
    """
    # A signal to the whole group means the worker, which then says what is to be done. Not
    # SIG_IGN: a program that a task starts would inherit that.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, lambda *_: None)
    threading.Thread(target=_die_with_the_worker, args=(alive,), daemon=True).start()
    django.setup()

    from django.db import connections

    from ..backend import nightshift_backend
    from ..context import send_logs_along
    from ..execute import execute
    from .logs import configure_logging

    # Whatever was opened before the fork belongs to the other process.
    connections.close_all()
    configure_logging(verbosity)
    send_logs_along()
    backend = nightshift_backend(alias)
    reporter = _Reporter(connection, why)
    signal.signal(INTERRUPT_SIGNAL, reporter.interrupt)
    connection.send(("ready",))
    while True:
        try:
            record = connection.recv()
        except EOFError:
            return
        connection.send(("done", execute(backend, record, reporter)))


class _Reporter:
    """Sends what the task says to the worker, and raises in it what the worker says."""

    def __init__(self, connection: Connection, why: Any) -> None:
        self.connection = connection
        self.why = why
        self.interruptible = False
        self.sending = False
        # A task may log from threads of its own.
        self.lock = threading.Lock()

    def begin(self) -> None:
        self.interruptible = True
        self.interrupt()

    def end(self) -> None:
        self.interruptible = False

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

    def cancelled(self) -> bool:
        return bool(self.why.value)

    def _send(self, message: tuple[Any, ...]) -> None:
        if threading.current_thread() is not threading.main_thread():
            with self.lock:
                self.connection.send(message)
            return
        self.sending = True
        with self.lock:
            self.connection.send(message)
        self.sending = False
        self.interrupt()


def _die_with_the_worker(alive: Connection) -> None:
    """A worker that is killed takes its processes along: nobody would hear of their tasks."""
    try:
        alive.recv()
    except EOFError:
        os.kill(os.getpid(), signal.SIGKILL)
