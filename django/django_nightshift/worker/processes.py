"""A slot that runs its tasks in a process of their own, which can be interrupted and killed."""

import asyncio
import errno
import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import forkserver, reduction
from multiprocessing.connection import wait
from typing import Any

from ..exceptions import WorkerLost
from ..execute import Outcome
from . import PATH_VARIABLE, child
from .reload import Files
from .slots import KILL_AFTER, Listener, call_in, in_thread, settle

Asides = dict[str, Callable[[Any], object] | None]
#: `PIDFD_SIGNAL_PROCESS_GROUP`, since Linux 6.9: the pidfd stands for its process's group.
TO_THE_GROUP = 4


class ProcessSlot:
    """A process that runs tasks one after the other; a new one replaces one that has died."""

    interruptible = True

    def __init__(
        self,
        alias: str,
        verbosity: int,
        *,
        tasks_max: int | None = None,
        imported: Callable[[Files], None] | None = None,
        written: Callable[[str], object] | None = None,
    ) -> None:
        """Another process takes the place of one that has run `tasks_max`.

        `imported` hears of files that its processes import, `written` of what they would have
        written to the terminal.
        """
        self.orders = child.Orders(
            alias,
            verbosity,
            start_method=multiprocessing.get_start_method(allow_none=True),
            report_files=imported is not None,
            report_lines=written is not None,
        )
        #: The listeners to messages that have nothing to do with the task.
        self.asides: Asides = {"files": imported, "line": written}
        self.context = _context()
        self.tasks_max = tasks_max
        #: How many more tasks the process runs; None for any number.
        self.left = tasks_max
        self.process: Process | None = None
        #: One that does not yet take tasks.
        self.unready: Process | None = None
        self.starting: asyncio.Future[Process] | None = None
        self.is_starting = threading.Event()
        self.closed = False
        self.reader: threading.Thread | None = None
        #: Why the task is to stop; 0 while it is not.
        self.why = 0
        self.killing: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        await self._living()

    async def _living(self) -> "Process":
        """A process that takes a task."""
        if self.process is not None and self.left == 0:
            await in_thread(self.process.join)
            self._drop()
        if self.process is None or self.process.has_ended():
            self._drop()
            self.starting = in_thread(self._start)
            self.process = await self.starting
            self.left = self.tasks_max
        return self.process

    def _start(self) -> "Process":
        self.is_starting.set()
        try:
            process = self.unready = Process(self.context, self.orders)
            if self.closed:
                process.kill()
            process.wait_until_ready(self.asides)
            return process
        finally:
            self.is_starting.clear()
            self.unready = None

    async def run(self, record: dict[str, Any], listener: Listener) -> Outcome:
        self.why = 0
        process, done = await self._converse(("run", record), listener)
        if done is not None:
            self._count()
            outcome: Outcome = done[1]
            return outcome
        # The programs that it has started end, too, and so does one that only closed its pipe.
        process.kill()
        await in_thread(process.join)
        lost = WorkerLost(f"the process of the task ended with {process.exit()}")
        return Outcome.of(lost, told=False)

    def _count(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left == 0 and self.process is not None:
                # It ends by itself, and its memory is free before the next task comes.
                self.process.connection.close()

    async def tell(self, record: dict[str, Any]) -> None:
        try:
            await self._converse(("tell", record), lambda _: None)
        except asyncio.CancelledError:
            self._drop()
            raise

    async def _converse(
        self, message: tuple[str, Any], listener: Listener
    ) -> tuple["Process", tuple[Any, ...] | None]:
        """The process that has answered, and its last answer; None where it has ended before."""
        process = await self._send(message)
        loop = asyncio.get_running_loop()
        messages: asyncio.Queue[Any] = asyncio.Queue()
        self.reader = threading.Thread(
            target=_read, args=(process, loop, messages), name="nightshift-reader", daemon=True
        )
        self.reader.start()
        while (answer := await messages.get()) is not None:
            if answer[0] == "done":
                self.reader = None
                break
            if not _aside(answer, self.asides):
                listener(answer)
        self._spare()
        return process, answer

    async def _send(self, message: tuple[str, Any]) -> "Process":
        while True:
            process = await self._living()
            # The task may have been interrupted while the process started.
            process.why.value = self.why
            try:
                process.connection.send(message)
            except OSError:
                # It has just died, and has begun nothing.
                self._drop()
            else:
                return process

    def interrupt(self, why: int) -> None:
        self.why = why
        if self.process is not None:
            self.process.why.value = why
            self.process.send_signal(child.INTERRUPT_SIGNAL)
        self.killing = asyncio.get_running_loop().call_later(KILL_AFTER, self._kill)

    def _kill(self) -> None:
        if self.process is not None:
            self.process.kill()
        elif self.starting is not None:
            settle(self.starting, WorkerLost("a worker process did not start in time"))
            self._kill_unready()

    def _spare(self) -> None:
        """The interrupted task has ended by itself; the next one is not to be killed for it."""
        if self.killing is not None:
            self.killing.cancel()
            self.killing = None

    def close(self) -> None:
        self.closed = True
        self._kill_unready()
        self._drop()

    def _kill_unready(self) -> None:
        if self.unready is not None:
            self.unready.kill()
        elif self.is_starting.is_set():
            _kill_forkserver()

    def _drop(self) -> None:
        self._spare()
        process, self.process = self.process, None
        if process is None:
            return
        if self.reader is None:
            # A program that a task has left running is not a part of the worker.
            process.send_signal(signal.SIGKILL)
        else:
            process.kill()
        process.join()
        if self.reader is not None:
            self.reader.join(KILL_AFTER)
            self.reader = None
        process.close()


class Process:
    """A process that has been started, and the ways to it."""

    def __init__(self, context: Any, orders: child.Orders) -> None:
        self.connection, theirs = context.Pipe()
        alive, self.alive = context.Pipe(duplex=False)
        self.why = context.Value("b", 0, lock=False)
        self.process = context.Process(target=child.main, args=(theirs, alive, self.why, orders))
        self.process.start()
        theirs.close()
        alive.close()
        #: Stands for the process, and for no later one with its number; None where there are none.
        self.pidfd: int | None = None
        with suppress(EOFError, OSError):
            if self.connection.recv():
                self.pidfd = reduction.recv_handle(self.connection)
                os.set_inheritable(self.pidfd, False)

    def wait_until_ready(self, asides: Asides) -> None:
        """Raises WorkerLost where it ends before."""
        try:
            while _aside(self.connection.recv(), asides):
                pass
        except (EOFError, OSError):
            self.join()
            how = self.exit()
            self.close()
            raise WorkerLost(f"a worker process ended with {how} at its start") from None

    @property
    def end(self) -> int:
        """Becomes readable when the process has ended, whoever holds its pipe then."""
        return self.process.sentinel if self.pidfd is None else self.pidfd

    def has_ended(self) -> bool:
        return bool(wait([self.end], 0))

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless the process has ended: its number may be another one's by now."""
        with suppress(ProcessLookupError):
            if self.pidfd is not None:
                signal.pidfd_send_signal(self.pidfd, number)
            elif not self.has_ended():
                os.kill(self.process.pid, number)

    def kill(self) -> None:
        """Kills it and what it has started, but for what has left its group."""
        if not self._kill_group() and not self.has_ended():
            # On a Linux before 6.9 a group can only be known by its first process, which lives.
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.send_signal(signal.SIGKILL)

    def _kill_group(self) -> bool:
        """Whether that can be done by the pidfd."""
        if self.pidfd is None:
            return False
        try:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL, None, TO_THE_GROUP)
        except OSError as error:
            return error.errno == errno.ESRCH
        return True

    def join(self) -> None:
        self.process.join(KILL_AFTER)

    def exit(self) -> str:
        code = self.process.exitcode
        return f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"

    def close(self) -> None:
        self.connection.close()
        self.alive.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None


def _aside(message: tuple[Any, ...], asides: Asides) -> bool:
    """Whether the message has nothing to do with the task; it is heard then."""
    heard = asides.get(message[0])
    if heard is not None:
        heard(message[1])
    return heard is not None


def _read(
    process: Process, loop: asyncio.AbstractEventLoop, messages: "asyncio.Queue[Any]"
) -> None:
    """Passes on what the process says, until the task is done or the process is gone.

    The end of the pipe is no sign of that: a process that the task has forked may hold it.
    """
    message: Any = ()
    while message is not None and message[:1] != ("done",):
        try:
            if process.end in wait([process.connection, process.end]):
                # The messages that have been sent are read yet, but no more are waited for.
                _shut(process.connection.fileno())
            message = process.connection.recv()
        except Exception:  # a message that was cut short may raise anything
            message = None
        call_in(loop, messages.put_nowait, message)


def _shut(descriptor: int) -> None:
    with socket.socket(fileno=os.dup(descriptor)) as pipe:
        pipe.shutdown(socket.SHUT_RD)


def _context() -> Any:
    """Processes are forked from one that has Django loaded and does nothing else."""
    context = multiprocessing.get_context("forkserver")
    os.environ[PATH_VARIABLE] = json.dumps([os.path.abspath(path) for path in sys.path])
    context.set_forkserver_preload(["django_nightshift.worker.preload"])
    return context


def _kill_forkserver() -> None:
    """Ends the process that others are forked from, where it does not come to forking any.

    It is this process's child and has not been waited for, so that its number is still its own.
    """
    pid = getattr(forkserver._forkserver, "_forkserver_pid", None)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
