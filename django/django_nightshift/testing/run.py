"""Plays the worker in a test."""

from django.db import connections

from ..compat import InvalidTaskBackend, task_backends
from ..results import TaskResult
from ..transactions import AfterCommit
from .backends import DummyBackend


def run_tasks(
    *, later: bool = False, using: str | None = None, limit: int = 1_000
) -> list[TaskResult]:
    """Runs the tasks that wait, and those that they enqueue, until there are none.

    Answers the results in the order in which the tasks ran, which is that of the service: by
    priority, then by the time since when they are due. A task that fails is tried again at once if
    attempts are left; look at the results for how each ended. In a TestCase, whose transaction is
    never committed, tasks that wait for the commit are run as well.

    Tasks with a `run_after` that is yet to come wait on; with `later`, those run that there are by
    now. `using` names one backend; the default is all of `django_nightshift.testing`.

    Raises InvalidTaskBackend where TASKS names no such backend, and RuntimeError where more than
    `limit` tasks are to be run, as tasks may go on enqueuing tasks.
    """
    backends = _backends(using)
    results: list[TaskResult] = []
    _commit(backends)
    known = {id(entry) for backend in backends for entry in backend.memory.waiting()}
    while True:
        waiting = [
            (entry.order, backend, entry)
            for backend in backends
            for entry in backend.memory.waiting()
            if entry.is_due or (later and id(entry) in known)
        ]
        if not waiting:
            return results
        _, backend, entry = min(waiting, key=lambda one: one[0])
        if len(results) == limit:
            raise RuntimeError(f"{limit} tasks ran, and {entry.record['task_path']} is yet to run")
        backend.run(entry)
        results.append(backend.get_result(entry.record["id"]))
        _commit(backends)


def _backends(using: str | None) -> list[DummyBackend]:
    aliases = list(task_backends) if using is None else [using]
    found = [one for alias in aliases if isinstance(one := task_backends[alias], DummyBackend)]
    if not found:
        raise InvalidTaskBackend(
            f"TASKS has no backend of django_nightshift.testing among {', '.join(aliases)}"
        )
    return found


def _commit(backends: list[DummyBackend]) -> None:
    """Sends what these backends hold back until a commit."""
    for connection in connections.all(initialized_only=True):
        for _, function, *_ in list(connection.run_on_commit):
            if (
                isinstance(function, AfterCommit)
                and function.owner in backends
                and not function.is_dropped()
            ):
                function.send_now()
