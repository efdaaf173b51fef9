"""Where a worker runs its tasks: each slot runs one at a time, in a process or in a thread."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from ..execute import Outcome

#: Takes `("progress", fraction, message)` and `("log", line)`.
Listener = Callable[[tuple[Any, ...]], None]
#: How long a task may take to end after it was interrupted, before its process is killed.
KILL_AFTER = 5.0

T = TypeVar("T")


class Slot(Protocol):
    """Runs one task at a time."""

    #: Whether a task can be stopped from outside.
    interruptible: bool

    async def run(self, record: dict[str, Any], listener: Listener) -> Outcome:
        """Runs the task to its end."""

    async def tell(self, record: dict[str, Any]) -> None:
        """Tells the site's code that a task has ended, in the place where tasks run."""

    def interrupt(self, why: int) -> None:
        """Asks the task to stop; `run` ends soon after, if the slot is interruptible."""

    async def start(self) -> None:
        """Gets ready, so that the first task starts at once."""

    def close(self) -> None:
        """Ends what is left of the slot, the task that runs in it included if it can be."""


def settle(future: "asyncio.Future[T]", value: Any) -> None:
    """Gives the future its value or exception, unless it has one."""
    if future.done():
        return
    if isinstance(value, BaseException):
        future.set_exception(value)
    else:
        future.set_result(value)


def in_thread(work: Callable[[], T]) -> "asyncio.Future[T]":
    """What `work` returns or raises, in a thread for which the worker's end does not wait."""
    run, future = settled_by(work)
    threading.Thread(target=run, name="nightshift", daemon=True).start()
    return future


def settled_by(work: Callable[[], T]) -> tuple[Callable[[], None], "asyncio.Future[T]"]:
    """A function for another thread, and the future that gets what `work` returns or raises."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            value: Any = work()
        except BaseException as error:
            value = error
        call_in(loop, settle, future, value)

    return run, future


def call_in(loop: asyncio.AbstractEventLoop, what: Callable[..., Any], *arguments: Any) -> None:
    """Calls it in the loop, from another thread; does nothing once the loop has ended."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(what, *arguments)
