"""Notices that code has changed."""

import asyncio
import logging
import threading
from collections.abc import Callable

from django.utils import autoreload

logger = logging.getLogger("django_nightshift.worker")


def watch_files(changed: Callable[[], None]) -> None:
    """Calls `changed` in the event loop once a file of the running code has changed."""
    loop = asyncio.get_running_loop()

    def notify(path: object) -> None:
        logger.info("%s changed, reloading.", path)
        loop.call_soon_threadsafe(changed)

    watcher = threading.Thread(target=_Watcher(notify).watch, name="nightshift-reload", daemon=True)
    watcher.start()


class _Watcher(autoreload.StatReloader):
    """Django's own watcher, which would end the process at once."""

    def __init__(self, notify: Callable[[object], None]) -> None:
        super().__init__()
        self.notify = notify
        self.has_changed = False

    def watch(self) -> None:
        for _ in self.tick():
            if self.has_changed:
                return

    def notify_file_changed(self, path: object) -> None:
        if not self.has_changed:
            self.has_changed = True
            self.notify(path)
