"""Tasks that start processes of their own, in a module that needs Django's models."""

import logging
import multiprocessing
import os
import signal
import sys
import time

from django.contrib.auth.models import User

from .tasks import mark, mind_nothing, task

logger = logging.getLogger(__name__)


def _double(number):
    logger.warning("doubling %d for %s", number, User._meta.label)
    return 2 * number


@task()
def pool(count):
    """Ends the pool's processes with SIGTERM, as `with` does."""
    with multiprocessing.Pool(2) as processes:
        return processes.map(_double, range(count))


@task()
def pool_that_is_stopped(marker):
    with multiprocessing.Pool(2) as processes:
        waiting = processes.map_async(time.sleep, [400, 400])
        mark.func(marker)
        processes.terminate()
        processes.join()
    return waiting.ready()


@task()
def stop_at_once(count):
    """Whether each of so many processes has ended by a signal that came as it began."""
    ends = []
    for _ in range(count):
        process = multiprocessing.Process(target=time.sleep, args=(400,))
        process.start()
        process.terminate()
        process.join()
        ends.append(process.exitcode)
    return ends == [-signal.SIGTERM] * count


@task()
def start_method():
    return multiprocessing.get_start_method()


@task()
def fork_and_die(marker):
    """A process that lives on holds all that its parent had."""
    child = os.fork()
    if child == 0:
        time.sleep(400)
        os._exit(0)
    with open(marker, "a") as file:
        file.write(f"{child}\n")
    os.kill(os.getpid(), signal.SIGKILL)


@task()
def fork_and_return(marker, how):
    """Both processes leave the task's function, the other one when it is told to."""
    me = os.getpid()
    if os.fork() == 0:
        until = time.monotonic() + 60
        while not os.path.exists(marker + ".go") and time.monotonic() < until:
            time.sleep(0.02)
        logger.warning("a line of the other process")
        mark.func(marker)
        if how == "exit":
            sys.exit(3)
        if how == "raise":
            raise ValueError("in the other process")
    return me == os.getpid()


@task()
def start_a_program_and_mind_nothing(marker):
    program = os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "400")
    with open(marker, "a") as file:
        file.write(f"{program}\n")
    mind_nothing()


@task()
def wait_for(path):
    until = time.monotonic() + 60
    while not os.path.exists(path) and time.monotonic() < until:
        time.sleep(0.02)
    return "waited"


@task()
def own_signals(marker):
    """Sets what a library may set, and does not set it back."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    mark.func(marker)
