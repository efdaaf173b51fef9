"""A control group for one process, with a limit on memory: version 1 or 2, whatever there is."""

import os
import pathlib

ROOT = pathlib.Path("/sys/fs/cgroup")


class Unavailable(Exception):
    """Why no group can be made here."""


class Group:
    """Lies below the group of this program, or, of version 2, beside it."""

    def __init__(self, mib):
        self.folder, self.second = _parent()
        self.folder = self.folder / f"nightshift-stress-{os.getpid()}"
        try:
            self.folder.mkdir()
        except OSError as error:
            raise Unavailable(f"{self.folder} cannot be made: {error.strerror}") from error
        limit = "memory.max" if self.second else "memory.limit_in_bytes"
        try:
            (self.folder / limit).write_text(str(mib << 20))
            swap = self.folder / "memory.swap.max"
            if self.second and swap.exists():
                swap.write_text("0")
        except OSError as error:
            self.remove()
            raise Unavailable(f"{self.folder / limit} cannot be set: {error}") from error

    def take(self, pid):
        """To be called for a process that has not begun to work yet."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    def peak_mib(self):
        """The most that it had, the kernel's part and cached pages of files included."""
        name = "memory.peak" if self.second else "memory.max_usage_in_bytes"
        try:
            return int((self.folder / name).read_text()) >> 20
        except OSError:
            # Version 2 says so from Linux 5.19 on only.
            return None

    def kills(self):
        """How often the kernel ended a process because there was no memory left."""
        name = "memory.events" if self.second else "memory.oom_control"
        words = (self.folder / name).read_text().split()
        return int(dict(zip(words[::2], words[1::2], strict=True)).get("oom_kill", 0))

    def remove(self):
        self.folder.rmdir()


def _parent():
    """This program's group, and whether it is of version 2."""
    second = None
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return ROOT / "memory" / path.lstrip("/"), False
        if not controllers:
            second = ROOT / path.lstrip("/")
    if second is None or not second.is_dir():
        raise Unavailable("there is no control group of memory")
    if "memory" not in (second / "cgroup.controllers").read_text().split():
        raise Unavailable(f"{second} has no controller of memory")
    # Of version 2, a group has either processes or groups below it: beside this one, then.
    return second.parent, True
