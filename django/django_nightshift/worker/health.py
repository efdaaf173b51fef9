"""Shows others that the worker is alive: by a file, and to systemd."""

import asyncio
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger("django_nightshift.worker")

#: How often it is shown, where nobody wants it sooner.
EVERY_SECONDS = 5.0


class Health:
    """A file whose time of change is never long ago while the worker's loop runs.

    It shows that the worker looks after its tasks; not that the service is there, since starting
    the worker again would not bring it back.
    """

    def __init__(self, path: str | None) -> None:
        self.path = Path(path) if path else None
        self.showing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to show it, in the running loop. Raises OSError where the file cannot be made."""
        address = os.environ.get("NOTIFY_SOCKET")
        if self.path is None and not address:
            return
        if self.path is not None:
            self.path.touch()
        _notify(address, "READY=1")
        self.showing = asyncio.ensure_future(self._show(address))

    def stop(self) -> None:
        """The file is away when the worker has ended as it should."""
        if self.showing is not None:
            self.showing.cancel()
        if self.path is not None:
            with suppress(OSError):
                self.path.unlink()

    async def _show(self, address: str | None) -> None:
        failed = False
        while True:
            try:
                if self.path is not None:
                    self.path.touch()
                failed = False
            except OSError as error:
                if not failed:
                    logger.warning("The health file cannot be written: %s", error)
                failed = True
            _notify(address, "WATCHDOG=1")
            await asyncio.sleep(_pause())


def _pause() -> float:
    """systemd says after how long it gives the worker up."""
    limit = os.environ.get("WATCHDOG_USEC", "")
    return min(EVERY_SECONDS, int(limit) / 3e6) if limit.isdecimal() else EVERY_SECONDS


def _notify(address: str | None, message: str) -> None:
    """Tells systemd, where it has started the worker with `Type=notify`."""
    if not address:
        return
    # An address without a file begins with a zero byte, for which systemd writes `@`.
    name = "\0" + address[1:] if address.startswith("@") else address
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(message.encode(), name)
