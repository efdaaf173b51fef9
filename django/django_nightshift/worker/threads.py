"""A slot that runs its tasks in a thread of the worker's own process."""

import asyncio
import os
import queue
import signal
import threading
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from ..backend import NightshiftBackend
from ..context import send_logs_along
from ..execute import Outcome, execute, tell_of_end
from .forked import at_fork, leave
from .reload import Files, Imports
from .slots import Listener, T, call_in, settled_by


class ThreadSlot:
    """A thread. It cannot be stopped, only asked to."""

    interruptible = False

    def __init__(
        self, backend: NightshiftBackend, imported: Callable[[Files], None] | None = None
    ) -> None:
        """`imported` hears, in the event loop, of files that the tasks import."""
        self.backend = backend
        self.imported = imported
        self.imports = Imports()
        self.why = 0
        self.work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    async def start(self) -> None:
        send_logs_along()
        _look_after_forks()
        # The end of the worker's process does not wait for it.
        threading.Thread(target=self._loop, name="nightshift-task", daemon=True).start()

    def _loop(self) -> None:
        while (work := self.work.get()) is not None:
            work()

    async def run(self, record: dict[str, Any], listener: Listener) -> Outcome:
        self.why = 0
        say = partial(call_in, asyncio.get_running_loop())
        reporter = _ThreadReporter(self, partial(say, listener), partial(self._files, say))

        def work() -> Outcome:
            try:
                return execute(self.backend, record, reporter)
            finally:
                self._files(say)

        return await self._in_thread(work)

    async def tell(self, record: dict[str, Any]) -> None:
        await self._in_thread(lambda: tell_of_end(self.backend, record))

    def _in_thread(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        run, future = settled_by(work)
        self.work.put(run)
        return future

    def _files(self, say: Callable[..., None]) -> None:
        if self.imported is not None and (files := self.imports.new()):
            say(self.imported, files)

    def interrupt(self, why: int) -> None:
        self.why = why

    def close(self) -> None:
        self.work.put(None)


class _ThreadReporter:
    def __init__(
        self,
        slot: ThreadSlot,
        send: Callable[[tuple[Any, ...]], None],
        report_files: Callable[[], None],
    ) -> None:
        self.slot = slot
        self.send = send
        self.report_files = report_files

    def begin(self) -> None:
        self.pid = os.getpid()
        # Its module has been imported, and it may run for long.
        self.report_files()

    def end(self) -> None:
        if self.pid != os.getpid():
            leave()

    def progress(self, fraction: float | None, message: str | None) -> None:
        self._send(("progress", fraction, message))

    def log(self, line: dict[str, str]) -> None:
        self._send(("log", line))

    def cancelled(self) -> bool:
        return bool(self.slot.why)

    def _send(self, message: tuple[Any, ...]) -> None:
        # The loop of a process that a task forked is a copy that nobody runs.
        if self.pid == os.getpid():
            self.send(message)


@lru_cache(maxsize=1)
def _look_after_forks() -> None:
    # In threads only the worker itself handles signals, all of them in the same way.
    ours = signal.getsignal(signal.SIGTERM)
    at_fork(lambda handler: handler is ours, lambda: None)
