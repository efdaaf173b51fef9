"""One attempt of a task, from its lease to its recorded end."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ..client import Service
from ..exceptions import ServiceRefused, ServiceUnavailable, TaskTimeout
from ..execute import Outcome
from .child import CANCELLED, HURRY, TIMEOUT
from .slots import Slot, settle

logger = logging.getLogger("django_nightshift.worker")

#: A cancelled task has ten seconds from the cancel on; its worker hears of it in a heartbeat.
HEARTBEAT_SECONDS_MAX = 3.0
#: How long the end of an attempt is reported on, while the service is away.
REPORT_SECONDS = 300.0
#: How long the receivers of a signal may take outside of a task.
TELL_SECONDS = 30.0
LOG_LINES_A_REQUEST = 1_000
#: About; the service keeps a MiB of one heartbeat, and drops the rest.
LOG_CHARS_A_REQUEST = 256 * 1024
LOG_LINES_MAX = 10_000
LOST = -1


class Attempt:
    """Runs a lease's task in a slot, keeps the lease alive, and reports the outcome."""

    def __init__(
        self,
        service: Service,
        slot: Slot,
        lease: dict[str, Any],
        *,
        lease_seconds: float,
        timeout: float | None,
        hurry: asyncio.Event,
    ) -> None:
        self.service = service
        self.slot = slot
        self.lease = lease
        self.interval = min(HEARTBEAT_SECONDS_MAX, lease_seconds / 3)
        self.timeout = timeout
        self.hurry = hurry
        self.url = f"/leases/{lease['token']}"
        self.task_id = lease["task"]["id"]
        self.progress: dict[str, Any] | None = None
        # A task that writes more than can be sent loses the oldest lines.
        self.lines: deque[dict[str, str]] = deque(maxlen=LOG_LINES_MAX)
        self.stopped: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def run(self, free: Callable[[], None]) -> None:
        """Runs it to its recorded end, and calls `free` as soon as the slot is."""
        work = asyncio.ensure_future(self.slot.run(self.lease["task"], self._heard))
        ended: set[asyncio.Future[Any]] = {work, self.stopped}
        watchers = [asyncio.create_task(w) for w in (self._beat(), self._tick(), self._hurry())]
        for watcher in watchers:
            watcher.add_done_callback(self._watched)
        try:
            await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
            why = self.stopped.result() if self.stopped.done() else None
            if why is not None:
                self.slot.interrupt(CANCELLED if why == LOST else why)
            # What can be stopped is waited for, so that nobody else begins before it has ended;
            # so is a cancelled task in a thread, which may look whether it is cancelled.
            if self.slot.interruptible or why in (None, CANCELLED):
                await work
        except BaseException:
            if not work.done():
                # This worker looks after the task no more, and another one may begin it.
                self.slot.close()
            raise
        finally:
            for watcher in watchers:
                watcher.cancel()
        if work.done():
            outcome = work.result()
            if outcome.told:
                free()
                await self._report(why, outcome)
            else:
                await self._tell(await self._report(why, outcome))
                free()
            return
        await self._report(why, None)
        if why != HURRY:
            await work
            free()

    def _watched(self, watcher: "asyncio.Task[None]") -> None:
        """An attempt that is not looked after any more is not run on."""
        if not watcher.cancelled() and (error := watcher.exception()) is not None:
            settle(self.stopped, error)

    def _stop(self, why: int) -> None:
        settle(self.stopped, why)

    def _heard(self, message: tuple[Any, ...]) -> None:
        """Keeps what the task said for the next heartbeat."""
        if message[0] == "log":
            self.lines.append(message[1])
        elif message[0] == "progress":
            self.progress = {"fraction": message[1], "message": message[2]}

    async def _beat(self) -> None:
        silent = False
        while True:
            await asyncio.sleep(self.interval)
            try:
                answer = await self._renew(self.interval)
            except ServiceUnavailable as error:
                if not silent:
                    logger.warning("Task id=%s is without a heartbeat: %s", self.task_id, error)
                silent = True
                continue
            except ServiceRefused as error:
                logger.warning("Task id=%s has lost its lease: %s", self.task_id, error)
                return self._stop(LOST)
            silent = False
            if answer["cancel_requested"]:
                return self._stop(CANCELLED)

    async def _renew(self, seconds: float) -> Any:
        """Sends a heartbeat with what the task has said since the last one."""
        body: dict[str, Any] = {}
        if self.progress is not None:
            body["progress"], self.progress = self.progress, None
        lines: list[dict[str, str]] = []
        chars = 0
        while self.lines and len(lines) < LOG_LINES_A_REQUEST and chars < LOG_CHARS_A_REQUEST:
            lines.append(self.lines.popleft())
            chars += len(lines[-1]["message"])
        if lines:
            body["logs"] = lines
        try:
            return await self.service.arequest("POST", f"{self.url}/renew", body, seconds=seconds)
        except ServiceUnavailable:
            self.progress = self.progress or body.get("progress")
            self.lines.extendleft(reversed(lines))
            raise

    async def _tick(self) -> None:
        """Stops what takes too long: longer than the task may, or than this worker lets it."""
        # Counted from now on: this machine's clock may differ from the service's.
        seconds = float(self.lease["task"]["timeout_seconds"])
        await asyncio.sleep(min(seconds, self.timeout or seconds))
        self._stop(TIMEOUT)

    async def _hurry(self) -> None:
        await self.hurry.wait()
        self._stop(HURRY)

    async def _report(self, why: int | None, outcome: Outcome | None) -> Any:
        """Says how it ended until the service has heard it, or does not want to know any more.

        The task's record after it, where the service has answered.
        """
        if why == LOST:
            return None
        await self._send_the_rest()
        path, body = self._end(why, outcome)
        try:
            return await self.service.arequest(
                "POST", self.url + path, body, seconds=REPORT_SECONDS
            )
        except (ServiceRefused, ServiceUnavailable) as error:
            logger.error("Task id=%s: its end could not be reported: %s", self.task_id, error)
            return None

    async def _tell(self, record: Any) -> None:
        """Tells the site's code of an end of which the task's process could not."""
        if not record or not record["finished_at"] or self.hurry.is_set():
            return
        telling = asyncio.ensure_future(self.slot.tell(record))
        hurry = asyncio.ensure_future(self.hurry.wait())
        ended = {telling, hurry}
        await asyncio.wait(ended, timeout=TELL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not telling.done():
            logger.warning("Task id=%s: receivers of task_finished take too long", self.task_id)
            telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)

    def _end(self, why: int | None, outcome: Outcome | None) -> tuple[str, bytes | None]:
        if why == CANCELLED:
            return "/finish", b'{"cancelled": true}'
        if why == HURRY and self.lease["max_attempts"] > 1:
            return "/release", None
        if outcome is None or (why is not None and outcome.error is None):
            outcome = Outcome.of(_not_ended(why))
        return "/finish", outcome.body()

    async def _send_the_rest(self) -> None:
        until = time.monotonic() + self.interval
        while (self.lines or self.progress) and time.monotonic() < until:
            try:
                await self._renew(self.interval)
            except (ServiceRefused, ServiceUnavailable):
                return


def _not_ended(why: int | None) -> BaseException:
    if why == TIMEOUT:
        return TaskTimeout("the task took too long; its thread goes on")
    # Nobody knows how far it came, so what may be tried only once is not tried again.
    return SystemExit("the worker was stopped")


def released(lease: dict[str, Any]) -> str:
    """The request that gives a lease back which was not begun."""
    return f"/leases/{lease['token']}/release"
