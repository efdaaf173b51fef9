"""A process that a task forks is no worker: it has neither its signals nor its way to speak."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

#: The signals that a worker handles in its own way, and what Python does with them.
DEFAULTS: dict[int, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGQUIT: signal.SIG_DFL,
    signal.SIGUSR1: signal.SIG_DFL,
}


def at_fork(is_ours: Callable[[Any], bool], release: Callable[[], None]) -> None:
    """From now on, each process that this one forks gets Python's own handling of signals in the
    place of `is_ours`, and calls `release`."""

    masks = threading.local()

    def block() -> None:
        # One that comes before the child has its own handling would be lost, or taken by an event
        # loop of the parent for its own.
        masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, DEFAULTS)

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.before)

    def forked() -> None:
        signal.set_wakeup_fd(-1)
        for number, default in DEFAULTS.items():
            if is_ours(signal.getsignal(number)):
                signal.signal(number, default)
        release()
        unblock()

    os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=forked)


def leave() -> NoReturn:
    """Ends this process as Python would have ended it where the task's code is left."""
    error = sys.exc_info()[1]
    status = 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    elif error is not None:
        traceback.print_exception(error)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status & 0xFF)
