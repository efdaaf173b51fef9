"""The tasks that the process tests of django-tasks-db enqueue; its sources leave them out."""

import time

from django_nightshift.compat import FRAMEWORK

if FRAMEWORK == "django.tasks":
    from django.tasks import task
else:
    from django_tasks import task


@task()
def noop_task():
    return None


@task()
def sleep_for(seconds):
    time.sleep(seconds)


@task()
def hang():
    while True:
        time.sleep(60)


@task()
def failing_task_system_exit():
    raise SystemExit("This Task failed due to SystemExit")


@task()
def failing_task_keyboard_interrupt():
    raise KeyboardInterrupt("This Task failed due to KeyboardInterrupt")
