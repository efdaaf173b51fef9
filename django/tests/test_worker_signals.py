"""`task_finished`, also where no code of the task could send it."""

import asyncio
import json
import os

import pytest
from django_nightshift import NightshiftBackend
from django_nightshift.compat import STATUS, task_finished

from conftest import SOON, until
from site_app import tasks

FAILED = str(STATUS["FAILED"])


@pytest.fixture
def sent(tmp_path):
    """The ends that receivers in a worker have heard, as they come."""
    path = tmp_path / "signals"

    def read():
        text = path.read_text() if path.exists() else ""
        return [
            (i, status) for name, i, status in map(json.loads, text.splitlines()) if "fin" in name
        ]

    read.path = str(path)
    return read


def begun(marker):
    until("begin", lambda: os.path.exists(marker))


def test_a_process_that_crashes(site, run_all, sent):
    once = tasks.crash.enqueue()
    again = tasks.crash.using(max_attempts=2, backoff={"initial_seconds": 0}).enqueue()
    good = tasks.noop.enqueue()
    said = run_all(TEST_SIGNALS=sent.path)
    assert sorted(sent()) == sorted(
        [(once.id, FAILED), (again.id, FAILED), (good.id, str(STATUS["SUCCESSFUL"]))]
    )
    assert said.count(f"Task id={once.id} path=site_app.tasks.crash state=FAILED") == 1


@pytest.mark.parametrize("task", [tasks.mark_and_sleep, tasks.stubborn])
def test_a_running_task_that_is_cancelled(site, start_worker, sent, tmp_path, task):
    marker = str(tmp_path / "marker")
    result = task.enqueue(marker, *([60] if task is tasks.mark_and_sleep else []))
    start_worker(TEST_SIGNALS=sent.path)
    begun(marker)
    result.cancel()
    assert result.wait(SOON)
    next_one = tasks.noop.enqueue()
    assert next_one.wait(SOON)
    assert [end for end in sent() if end[0] == result.id] == [(result.id, FAILED)]


@pytest.fixture
def heard(site):
    """The ends that receivers in this process have heard."""
    ends = []

    def hear(task_result, **_):
        ends.append((task_result.id, str(task_result.status)))

    task_finished.connect(hear, sender=NightshiftBackend)
    yield ends
    task_finished.disconnect(hear, sender=NightshiftBackend)


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_waiting_task_that_is_cancelled(heard, way):
    result = tasks.noop.enqueue()
    for _ in range(2):
        if way == "sync":
            result.cancel()
        else:
            asyncio.run(result.acancel())
    assert heard == [(result.id, FAILED)]


def test_a_running_task_that_is_cancelled_has_not_ended_yet(heard, start_worker, tmp_path):
    marker = str(tmp_path / "marker")
    result = tasks.mark_and_sleep.enqueue(marker, 60)
    start_worker()
    begun(marker)
    result.cancel()
    assert heard == []
    assert result.wait(SOON)


def test_a_waiting_task_that_the_admin_cancels(heard, admin):
    result = tasks.noop.enqueue()
    for action in ("cancel", "retry"):
        admin.post(f"/admin/django_nightshift/task/{result.id}/change/", {"action": action})
    assert heard == [(result.id, FAILED)]
