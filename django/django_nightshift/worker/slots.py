"""Where a worker runs its tasks: each slot runs one at a time, in a process or in a thread."""

import asyncio
import json
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, Protocol

from ..backend import NightshiftBackend
from ..context import send_logs_along
from ..exceptions import WorkerLost
from ..execute import Outcome, execute
from . import PATH_VARIABLE, child

#: Takes `("progress", fraction, message)` and `("log", line)`.
Listener = Callable[[tuple[Any, ...]], None]
#: How long a task may take to end after it was interrupted, before its process is killed.
KILL_AFTER = 5.0


class Slot(Protocol):
    """Runs one task at a time."""

    #: Whether a task can be stopped from outside.
    interruptible: bool

    async def run(self, record: dict[str, Any], listener: Listener) -> Outcome:
        """Runs the task to its end."""

    def interrupt(self, why: int) -> None:
        """Asks the task to stop; `run` ends soon after, if the slot is interruptible."""

    async def start(self) -> None:
        """Gets ready, so that the first task starts at once."""

    def close(self) -> None:
        """Ends what is left of the slot."""


class ProcessSlot:
    """A process that runs tasks one after the other; a new one replaces one that has died."""

    interruptible = True

    def __init__(self, alias: str, verbosity: int) -> None:
        self.alias = alias
        self.verbosity = verbosity
        self.context = _context()
        self.process: Any = None
        self.killing: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        if self.process is None or not self.process.is_alive():
            self.close()
            await asyncio.get_running_loop().run_in_executor(None, self._start)

    def _start(self) -> None:
        self.connection, theirs = self.context.Pipe()
        alive, self.alive = self.context.Pipe(duplex=False)
        self.why = self.context.Value("b", 0, lock=False)
        self.process = self.context.Process(
            target=child.main,
            args=(theirs, alive, self.why, self.alias, self.verbosity),
        )
        self.process.start()
        theirs.close()
        alive.close()
        try:
            self.connection.recv()
        except EOFError:
            self.process.join()
            raise WorkerLost(f"a worker process ended with {self._exit()} at its start") from None

    async def run(self, record: dict[str, Any], listener: Listener) -> Outcome:
        await self._send(record)
        loop = asyncio.get_running_loop()
        messages: asyncio.Queue[Any] = asyncio.Queue()
        reader = threading.Thread(
            target=_read, args=(self.connection, loop, messages), name="nightshift-reader"
        )
        reader.start()
        while (message := await messages.get()) is not None:
            if message[0] == "done":
                self._spare()
                outcome: Outcome = message[1]
                return outcome
            listener(message)
        # The pipe is closed: the process is gone, or about to be.
        self._spare()
        await loop.run_in_executor(None, self.process.join, KILL_AFTER)
        return Outcome.of(WorkerLost(f"the process of the task ended with {self._exit()}"))

    async def _send(self, record: dict[str, Any]) -> None:
        while True:
            await self.start()
            self.why.value = 0
            try:
                return self.connection.send(record)
            except OSError:
                # It has just died, and has begun nothing.
                self.close()

    def _exit(self) -> str:
        code = self.process.exitcode
        return f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"

    def interrupt(self, why: int) -> None:
        self.why.value = why
        os.kill(self.process.pid, child.INTERRUPT_SIGNAL)
        self.killing = asyncio.get_running_loop().call_later(KILL_AFTER, self.process.kill)

    def _spare(self) -> None:
        """The interrupted task has ended by itself; the next one is not to be killed for it."""
        if self.killing is not None:
            self.killing.cancel()
            self.killing = None

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.connection.close()
            self.alive.close()
            self.process = None


def _read(
    connection: Connection, loop: asyncio.AbstractEventLoop, messages: "asyncio.Queue[Any]"
) -> None:
    """Passes on what the process says, until the task is done or the process is gone."""
    message: Any = ()
    while message is not None and message[:1] != ("done",):
        try:
            message = connection.recv()
        except (EOFError, OSError):
            message = None
        loop.call_soon_threadsafe(messages.put_nowait, message)


def _context() -> Any:
    """Processes are forked from one that has Django loaded and does nothing else."""
    context = multiprocessing.get_context("forkserver")
    os.environ[PATH_VARIABLE] = json.dumps([os.path.abspath(path) for path in sys.path])
    context.set_forkserver_preload(["django_nightshift.worker.preload"])
    return context


class ThreadSlot:
    """A thread of the worker's own process. It cannot be stopped, only asked to."""

    interruptible = False

    def __init__(self, backend: NightshiftBackend) -> None:
        self.backend = backend
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="nightshift-task")
        self.why = 0

    async def start(self) -> None:
        send_logs_along()

    async def run(self, record: dict[str, Any], listener: Listener) -> Outcome:
        self.why = 0
        loop = asyncio.get_running_loop()

        def send(message: tuple[Any, ...]) -> None:
            loop.call_soon_threadsafe(listener, message)

        reporter = _ThreadReporter(self, send)
        return await loop.run_in_executor(self.thread, execute, self.backend, record, reporter)

    def interrupt(self, why: int) -> None:
        self.why = why

    def close(self) -> None:
        self.thread.shutdown(wait=False)


class _ThreadReporter:
    def __init__(self, slot: ThreadSlot, send: Callable[[tuple[Any, ...]], Any]) -> None:
        self.slot = slot
        self.send = send

    def begin(self) -> None:
        pass

    def end(self) -> None:
        pass

    def progress(self, fraction: float | None, message: str | None) -> None:
        self.send(("progress", fraction, message))

    def log(self, line: dict[str, str]) -> None:
        self.send(("log", line))

    def cancelled(self) -> bool:
        return bool(self.slot.why)
