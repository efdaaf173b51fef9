"""Tasks that behave in every way there is."""

import logging
import os
import subprocess
import sys
import time

from django_nightshift import is_cancelled, set_progress
from django_nightshift.compat import FRAMEWORK, TaskContext

if FRAMEWORK == "django.tasks":
    from django.tasks import task
else:
    from django_tasks import task

logger = logging.getLogger(__name__)


@task()
def noop(*args, **kwargs):
    return None


@task()
def add(a, b):
    return a + b


@task()
def echo(*args, **kwargs):
    return [list(args), kwargs]


@task()
def fail():
    raise ValueError("This Task failed due to ValueError")


@task()
def fail_with(message):
    raise ValueError(message)


@task()
def fail_oddly():
    raise ValueError(ValueError("inside"), object(), "\0")


@task()
def exit_process():
    sys.exit(3)


@task()
def interrupt():
    raise KeyboardInterrupt


@task()
def crash():
    os._exit(7)


@task()
def return_object():
    return object()


@task()
def return_nan():
    return float("nan")


@task()
def mark(path):
    """Leaves a line for each run, so that a test can count them."""
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")


@task()
def mark_and_fail(path):
    mark.func(path)
    raise RuntimeError("again")


@task()
def mark_and_sleep(path, seconds):
    mark.func(path)
    time.sleep(seconds)
    return "slept"


@task()
def sleep_in_a_program(path, seconds):
    mark.func(path)
    subprocess.run(["sleep", str(seconds)], check=True)


@task()
def wait_for_cancel(path):
    mark.func(path)
    until = time.monotonic() + 30
    while not is_cancelled() and time.monotonic() < until:
        time.sleep(0.02)
    return is_cancelled()


@task()
def work(seconds):
    """Takes so long, unless it is cancelled."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if is_cancelled():
            raise RuntimeError("cancelled")
        time.sleep(0.02)
    return seconds


@task()
def stubborn(path):
    """Does not mind being interrupted."""
    mark.func(path)
    mind_nothing()


def mind_nothing():
    while True:
        try:
            time.sleep(60)
        except Exception:
            logger.info("not me")


@task()
def talk(marker):
    set_progress(0.4, "2 of 5")
    logger.warning("a line of the task")
    logger.info("one with a number %d", 7)
    mark_and_sleep.func(marker, 0)
    until = time.monotonic() + 30
    while not os.path.exists(marker + ".go") and time.monotonic() < until:
        time.sleep(0.02)
    return "said"


@task()
async def asynchronous(value):
    return {"value": value}


@task()
def use_the_database():
    """Whether a connection was open before."""
    from django.db import connection

    was_open = connection.connection is not None
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return was_open


def not_a_task():
    raise AssertionError("this must never run")


if TaskContext is not None:

    @task(takes_context=True)
    def with_context(context, path):
        context.set_progress(0.5)
        return {
            "id": context.task_result.id,
            "attempt": context.attempt,
            "status": str(context.task_result.status),
            "cancelled": context.cancelled,
        }


@task()
def user_name(user_id):
    from django.contrib.auth.models import User

    return User.objects.get(pk=user_id).username


@task()
def enqueue_again(times):
    if times:
        enqueue_again.enqueue(times - 1)


@task()
def enqueue_in_a_transaction(times):
    from django.db import transaction

    if times:
        with transaction.atomic():
            enqueue_in_a_transaction.enqueue(times - 1)


@task()
def write_lines(count):
    for number in range(1, count + 1):
        logger.warning("line %d", number)
