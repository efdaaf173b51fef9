"""Notices that code has changed, also such as only the worker's processes import."""

import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from django.utils import autoreload

logger = logging.getLogger("django_nightshift.worker")

#: When each file had been changed last, in seconds since 1970, as it was imported.
Files = dict[Path, float]


class Imports:
    """The files that this process has imported since it was asked last."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.asked = time.time()

    def new(self) -> Files:
        # A file that was changed since then may have been read before it was.
        asked, self.asked = self.asked, time.time()
        names = set(sys.modules) - self.known
        self.known |= names
        modules = tuple(m for name in names if (m := sys.modules.get(name)) is not None)
        files: Files = {}
        for path in autoreload.iter_modules_and_files(modules, frozenset()):
            try:
                changed = path.stat().st_mtime
            except OSError:
                continue
            files[path] = asked if asked < changed <= self.asked else changed
        return files


class Watcher(autoreload.StatReloader):
    """Django's own watcher, which would end the process at once."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """Calls `changed`, in a thread of its own and once, when a file has changed."""
        super().__init__()
        self.changed = changed
        self.also_imported: Files = {}

    def start(self) -> None:
        threading.Thread(target=self._watch, name="nightshift-reload", daemon=True).start()

    def also(self, files: Files) -> None:
        """Watches files that another process has imported."""
        # Not changed in place: the other thread reads it.
        self.also_imported = {**files, **self.also_imported}
        self.extra_files = set(self.also_imported)

    def _watch(self) -> None:
        first: Files = {}
        while True:
            for path, changed in self.snapshot_files():
                # A file that another process has imported may have changed before it is seen here.
                if changed > first.setdefault(path, self.also_imported.get(path, changed)):
                    logger.info("%s changed, reloading.", path)
                    self.changed()
                    return
            time.sleep(self.SLEEP_TIME)
