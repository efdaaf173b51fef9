"""Takes tasks as long as there is room, until it is told to stop or has run enough."""

import asyncio
import logging
import os
import random
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..backend import NightshiftBackend, nightshift_backends
from ..exceptions import NightshiftError, ServiceRefused, ServiceUnavailable, WorkerLost
from ..registration import ensure_registered
from .attempt import Attempt, released
from .processes import ProcessSlot
from .reload import Files, Watcher
from .slots import Slot, call_in
from .threads import ThreadSlot

logger = logging.getLogger("django_nightshift.worker")

#: How long a request for tasks waits for the first one.
WAIT_SECONDS = 20
PAUSE_MAX = 10.0
ANSWER_SECONDS = 10.0
#: How long an answer that is on its way may take when the worker stops.
LAST_ANSWER_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the command line says."""

    worker_id: str
    queue_names: list[str]
    exclude_queue_names: list[str]
    #: The first pause, in seconds, after the service could not be reached.
    interval: float
    #: Ends when nothing is left to run.
    batch: bool
    startup_delay: bool
    max_tasks: int | None
    concurrency: int
    #: Runs tasks in threads, rather than in processes.
    threads: bool
    #: Seconds that a task may take at most, whatever it says itself.
    timeout: float | None
    #: How many tasks a process runs before another takes its place; None for any number.
    max_tasks_per_process: int | None
    #: Ends when code has changed, to be started again.
    reload: bool
    verbosity: int
    #: Shows what worker processes say; None where they do so themselves.
    written: Callable[[str], object] | None = None


class Worker:
    """One worker, with as many slots as tasks that it runs at once."""

    def __init__(self, backend: NightshiftBackend, settings: Settings) -> None:
        self.backend = backend
        self.service = backend.service
        self.settings = settings
        self.free: list[Slot] = [self._slot() for _ in range(settings.concurrency)]
        self.slots = list(self.free)
        self.running: set[asyncio.Task[None]] = set()
        #: A slot is free, or an attempt has ended.
        self.changed = asyncio.Event()
        self.left = settings.max_tasks
        self.failure: Exception | None = None
        self.pause = 0.0
        #: Whether it is to be started again.
        self.reload = False

    def _slot(self) -> Slot:
        imported = self._imported if self.settings.reload else None
        if self.settings.threads:
            return ThreadSlot(self.backend, imported)
        return ProcessSlot(
            self.backend.alias,
            self.settings.verbosity,
            tasks_max=self.settings.max_tasks_per_process,
            imported=imported,
            written=self.settings.written,
        )

    async def run(self) -> None:
        """Works until it is done. A signal ends it when its tasks have ended, a second at once."""
        self.drain = asyncio.Event()
        self.hurry = asyncio.Event()
        self._listen_for_signals()
        if self.settings.reload:
            loop = asyncio.get_running_loop()
            self.watcher = Watcher(partial(call_in, loop, self._stop_to_reload))
            self.watcher.start()
        logger.info(
            "Starting worker worker_id=%s queues=%s",
            self.settings.worker_id,
            ",".join(self.settings.queue_names),
        )
        if others := self._other_aliases():
            logger.info(
                "Tasks of the aliases %s of TASKS are run, too: they have the same executor.",
                ", ".join(map(repr, others)),
            )
        try:
            await self._register()
            if self.settings.startup_delay and self.settings.interval:
                # Against a herd of workers that all start at once.
                await self._sleep(random.random())
            await self._unless_drained(asyncio.gather(*(slot.start() for slot in self.slots)))
            await self._work()
        finally:
            self._close()

    async def _register(self) -> None:
        """Registers the executor, once the service is there."""
        while not self.drain.is_set():
            try:
                executor = await ensure_registered(self.backend)
            except ServiceUnavailable as error:
                await self._pause(error)
            else:
                self._answers()
                self.lease_seconds = float(executor["lease_seconds"])
                return

    async def _unless_drained(self, work: "asyncio.Future[Any]") -> None:
        """Waits for the work, unless the worker is told to stop."""
        drain = asyncio.ensure_future(self.drain.wait())
        try:
            await asyncio.wait({work, drain}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            drain.cancel()
        if work.done():
            work.result()
            return
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    def _other_aliases(self) -> list[str]:
        ours = self.backend.nightshift
        return [
            other.alias
            for other in nightshift_backends()
            if other.alias != self.backend.alias
            and (other.nightshift.url, other.nightshift.executor) == (ours.url, ours.executor)
        ]

    def _close(self) -> None:
        for slot in self.slots:
            slot.close()
        if self.hurry.is_set() and self.settings.threads and not self.failure:
            # Python may abort where a thread writes while it ends.
            logging.shutdown()
            sys.stdout.flush()
            os._exit(0)

    def _listen_for_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
            loop.add_signal_handler(number, self._stop, number)

    def _stop(self, number: int) -> None:
        name = signal.strsignal(number)
        if self.drain.is_set():
            logger.warning("Received %s - terminating current task.", name)
            self.hurry.set()
            return
        logger.warning(
            "Received %s - shutting down gracefully... (press Ctrl+C again to force)", name
        )
        self.drain.set()

    def _imported(self, files: Files) -> None:
        self.watcher.also(files)

    def _stop_to_reload(self) -> None:
        """Ends as after a signal, to be started again."""
        self.reload = True
        self.drain.set()

    async def _work(self) -> None:
        while not self.drain.is_set() and self.left != 0:
            if not self.free:
                await self._wait_for_change()
                continue
            leases = await self._lease()
            if leases:
                self._begin(leases)
            elif self.settings.batch and leases is not None:
                if not self.running:
                    logger.info(
                        "No more tasks to run for worker_id=%s - exiting gracefully.",
                        self.settings.worker_id,
                    )
                    return
                await self._wait_for_change()
        if self.running:
            await asyncio.gather(*self.running)
        if self.failure:
            raise self.failure
        if self.left == 0:
            logger.info(
                "Run maximum tasks (%d) on worker=%s - exiting gracefully.",
                self.settings.max_tasks,
                self.settings.worker_id,
            )

    async def _wait_for_change(self) -> None:
        self.changed.clear()
        waiting = [asyncio.ensure_future(e.wait()) for e in (self.drain, self.changed)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for one in waiting:
            one.cancel()

    async def _sleep(self, seconds: float) -> None:
        """Sleeps, unless the worker is told to stop."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.drain.wait(), seconds)

    async def _lease(self) -> list[dict[str, Any]] | None:
        """What is to be run now; None if that cannot be said."""
        asking = asyncio.ensure_future(self._ask())
        drain = asyncio.ensure_future(self.drain.wait())
        await asyncio.wait({asking, drain}, return_when=asyncio.FIRST_COMPLETED)
        drain.cancel()
        if not asking.done():
            # What has been handed out already is not lost on the way.
            await asyncio.wait({asking}, timeout=LAST_ANSWER_SECONDS)
        if not asking.done():
            asking.cancel()
            return None
        try:
            leases = asking.result()
        except ServiceUnavailable as error:
            await self._pause(error)
            return None
        except ServiceRefused as error:
            # It will not change its mind; what runs is finished first.
            self._fail(error)
            return None
        except Exception as error:
            # As it does where the answer was not the service's.
            self._fail(error)
            return None
        self._answers()
        if self.drain.is_set():
            await asyncio.gather(*map(self._release, leases))
            return None
        return leases

    async def _ask(self) -> list[dict[str, Any]]:
        most = len(self.free) if self.left is None else min(len(self.free), self.left)
        # After a failure it is soon known whether the service is back.
        wait = 0 if self.settings.batch or self.pause else WAIT_SECONDS
        request = {
            "worker_id": self.settings.worker_id,
            "max_tasks": most,
            "wait_seconds": wait,
            "queue_names": self.settings.queue_names,
            "exclude_queue_names": self.settings.exclude_queue_names,
        }
        path = f"/executors/{self.backend.nightshift.executor}/leases"
        try:
            # Once, and patiently: an answer that is not waited for may hold leases.
            answer = await self.service.arequest(
                "POST", path, request, wait=wait, seconds=ANSWER_SECONDS, once=True
            )
        except ServiceRefused as error:
            if error.code != "executor_not_found":
                raise
            await ensure_registered(self.backend)
            return []
        leases: list[dict[str, Any]] = answer["leases"]
        return leases

    async def _pause(self, error: NightshiftError) -> None:
        if not self.pause:
            logger.warning("The service gives no tasks; asking on: %s", error)
        self.pause = min(max(self.pause * 2, self.settings.interval, 0.1), PAUSE_MAX)
        await self._sleep(self.pause * random.uniform(0.5, 1))

    def _answers(self) -> None:
        if self.pause:
            logger.info("The service answers again")
            self.pause = 0.0

    async def _release(self, lease: dict[str, Any]) -> None:
        try:
            await self.service.arequest("POST", released(lease))
        except NightshiftError as error:
            logger.error("Task id=%s could not be given back: %s", lease["task"]["id"], error)

    def _begin(self, leases: list[dict[str, Any]]) -> None:
        for lease in leases:
            if self.left is not None:
                self.left -= 1
            attempt = asyncio.ensure_future(self._attempt(self.free.pop(), lease))
            self.running.add(attempt)
            attempt.add_done_callback(self._ended)

    def _ended(self, attempt: asyncio.Task[None]) -> None:
        self.running.discard(attempt)
        self.changed.set()

    def _free(self, slot: Slot) -> None:
        self.free.append(slot)
        self.changed.set()

    async def _attempt(self, slot: Slot, lease: dict[str, Any]) -> None:
        try:
            attempt = Attempt(
                self.service,
                slot,
                lease,
                lease_seconds=self.lease_seconds,
                timeout=self.settings.timeout,
                hurry=self.hurry,
            )
            # The next task need not wait until the end of this one is recorded.
            await attempt.run(partial(self._free, slot))
        except WorkerLost as error:
            # A process that cannot be started begins nothing.
            await self._release(lease)
            self._fail(error)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Ends the worker, when what runs has ended: whoever started it will see."""
        self.failure = error
        self.drain.set()
