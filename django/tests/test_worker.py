"""`nightshift_worker`: its life, its options, and what becomes of tasks that it runs."""

import itertools
import os
import re
import signal
import time
from pathlib import Path

import pytest
from django_nightshift.compat import STATUS, TaskContext, TaskError

from conftest import HTTP, SOON, until
from site_app import tasks

FAILED, SUCCESSFUL, READY = STATUS["FAILED"], STATUS["SUCCESSFUL"], STATUS["READY"]
OLD = TaskError is None
POOLS = pytest.mark.parametrize("pool", [(), ("--threads",)], ids=["processes", "threads"])


@pytest.fixture
def marker(tmp_path):
    """A file with a line for each time that a task has begun."""
    return str(tmp_path / "marker")


def runs(marker):
    return open(marker).read().splitlines() if os.path.exists(marker) else []


def begun(marker, times=1):
    until("begin of the task", lambda: len(runs(marker)) >= times)


def kinds(service, result):
    return [error["kind"] for error in service.task(result)["errors"]]


def is_alive(pid):
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"


@POOLS
def test_the_log_lines_of_db_worker(site, run_all, pool):
    ok, bad = tasks.add.enqueue(1, 2), tasks.fail.enqueue()
    for debug in ({}, {"TEST_DEBUG": "1"}):
        said = run_all("--worker-id", "w1", *pool, **debug)
        if debug:
            continue
        lines = said.splitlines()
        assert lines[0] == "Starting worker worker_id=w1 queues=default"
        path = "path=site_app.tasks"
        for line in (
            f"Task id={ok.id} {path}.add state=RUNNING",
            f"Task id={ok.id} {path}.add state={SUCCESSFUL}",
            f"Task id={bad.id} {path}.fail state=RUNNING",
            f"Task id={bad.id} {path}.fail state=FAILED",
            "No more tasks to run for worker_id=w1 - exiting gracefully.",
        ):
            assert lines.count(line) == 1, said
        assert "NoneType: None" not in said
        assert said.count("ValueError: This Task failed due to ValueError") == 1


def test_c42_lines_are_shown_by_verbosity(site, run_all):
    for verbosity, shown in [(0, False), (1, True), (2, True)]:
        result = tasks.noop.enqueue()
        assert (f"Task id={result.id}" in run_all(verbosity=verbosity)) is shown


@pytest.mark.skipif(TaskContext is None, reason="django-tasks before 0.8 has no context")
@POOLS
def test_c24_the_context(site, run_all, pool):
    result = tasks.with_context.enqueue("x")
    run_all(*pool)
    result.refresh()
    assert result.return_value == {
        "id": result.id,
        "attempt": 1,
        "status": "RUNNING",
        "cancelled": False,
    }


@POOLS
def test_progress_and_logs(site, start_worker, marker, pool):
    result = tasks.talk.enqueue(marker)
    worker = start_worker(*pool)
    begun(marker)

    def progress():
        result.refresh()
        return result.progress

    assert until("progress", progress) == (0.4, "2 of 5")
    assert not result.is_finished
    open(marker + ".go", "w").close()
    assert result.wait(SOON)
    assert [(line.level, line.message, line.attempt) for line in result.logs] == [
        ("warning", "a line of the task", 1)
    ]
    # As a terminal shows it where nobody has set up logging.
    worker.says("^a line of the task$")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@POOLS
def test_c27_a_signal_lets_running_tasks_end(site, start_worker, marker, number, pool):
    result = tasks.mark_and_sleep.enqueue(marker, 1)
    waiting = tasks.noop.enqueue()
    worker = start_worker(*pool)
    begun(marker)
    worker.signal(number)
    code, said = worker.ends()
    assert code == 0
    assert "shutting down gracefully... (press Ctrl+C again to force)" in said
    result.refresh()
    waiting.refresh()
    assert (result.status, waiting.status) == (SUCCESSFUL, READY)
    assert site.task(waiting)["attempts"] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_c27_a_signal_to_the_whole_group_is_one_to_the_worker(site, start_worker, marker, number):
    """As Ctrl+C in a terminal and a stop by systemd send it."""
    result = tasks.mark_and_sleep.enqueue(marker, 1)
    worker = start_worker()
    begun(marker)
    os.killpg(worker.process.pid, number)
    assert worker.ends()[0] == 0
    result.refresh()
    assert result.status == SUCCESSFUL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@POOLS
def test_c28_a_second_signal_stops_at_once(site, start_worker, marker, number, pool):
    once = tasks.mark_and_sleep.enqueue(marker, 60)
    again = tasks.mark_and_sleep.using(max_attempts=3).enqueue(marker, 60)
    worker = start_worker("--concurrency", "2", *pool)
    begun(marker, 2)
    worker.signal(number)
    worker.says("shutting down")
    worker.signal(number)
    code, said = worker.ends(5)
    assert code == 0 and "terminating current task." in said
    once.refresh()
    again.refresh()
    assert once.status == FAILED
    assert site.task(once)["errors"][0]["exception_class_path"] == "builtins.SystemExit"
    # Given back: somebody else may try it, and the attempt does not count.
    assert again.status == READY
    assert site.task(again)["attempts"] == 0


@POOLS
def test_c29_an_idle_worker_stops_at_once(site, start_worker, pool):
    worker = start_worker(*pool)
    # It asks for the next one when this has ended.
    assert tasks.noop.enqueue().wait(SOON)
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.ends(SOON)[0] == 0
    # Not only when the service has nothing to say after the 20 seconds that it is asked to wait.
    assert time.monotonic() - began < 15


@POOLS
def test_c30_a_killed_worker_leaves_no_task_running(site, start_worker, marker, pool):
    site.put("/executors/django", {"kind": "worker", "task_paths": ["*"], "lease_seconds": 1})
    once = tasks.mark_and_sleep.enqueue(marker, 600)
    again = tasks.mark_and_sleep.using(max_attempts=2, backoff={"initial_seconds": 0}).enqueue(
        marker, 600
    )
    worker = start_worker("--concurrency", "2", *pool)
    begun(marker, 2)
    worker.signal(signal.SIGKILL)
    assert worker.ends()[0] == -signal.SIGKILL
    assert once.wait(SOON)
    assert once.status == FAILED
    assert kinds(site, once) == ["lost"]
    until("other attempt", lambda: site.task(again)["status"] == "READY")
    # Its processes go with it.
    for pid in runs(marker):
        until("end of the process", lambda pid=pid: not is_alive(pid))
    if not OLD:
        assert once.errors[0].exception_class.__name__ == "WorkerLost"
    else:
        assert once.exception_class.__name__ == "WorkerLost"


def test_a_process_that_crashes_fails_its_task_only(site, run_all):
    result, next_one = tasks.crash.enqueue(), tasks.noop.enqueue()
    run_all()
    result.refresh()
    next_one.refresh()
    assert (result.status, next_one.status) == (FAILED, SUCCESSFUL)
    error = site.task(result)["errors"][0]
    assert error["exception_class_path"] == "django_nightshift.exceptions.WorkerLost"
    assert "exit status 7" in error["message"]


@POOLS
def test_a_module_that_cannot_be_imported_fails_its_task_only(site, run_all, pool):
    body = {"task_path": "site_app.broken.task", "max_attempts": 1}
    task_id = HTTP.post(f"{site.url}/tasks", json=body).json()["id"]
    next_one = tasks.noop.enqueue()
    run_all(*pool)
    task = site.get(f"/tasks/{task_id}")
    assert task["errors"][0]["exception_class_path"] == "builtins.RuntimeError"
    next_one.refresh()
    assert next_one.status == SUCCESSFUL


@POOLS
def test_database_connections_are_closed_as_around_a_request(site, run_all, pool, tmp_path):
    results = [tasks.use_the_database.enqueue() for _ in range(3)]
    # One in memory is never closed.
    run_all(*pool, TEST_SITE_DATABASE=str(tmp_path / "site.db"))
    assert [tasks.use_the_database.get_result(r.id).return_value for r in results] == [False] * 3


def test_c32_a_task_longer_than_its_lease_runs_once(site, start_worker, marker):
    site.put("/executors/django", {"kind": "worker", "task_paths": ["*"], "lease_seconds": 1})
    result = tasks.mark_and_sleep.using(max_attempts=3).enqueue(marker, 3)
    start_worker()
    assert result.wait(SOON)
    assert (result.return_value, len(runs(marker))) == ("slept", 1)


def test_c36_a_task_cancelled_while_it_waits_never_runs(site, run_all, marker):
    result = tasks.mark.enqueue(marker)
    result.cancel()
    assert result.status == FAILED
    result.cancel()
    run_all()
    result.refresh()
    assert result.status == FAILED and runs(marker) == []
    assert kinds(site, result) == ["cancelled"]
    cls = result.exception_class if OLD else result.errors[0].exception_class
    assert f"{cls.__module__}.{cls.__name__}" == "django_nightshift.exceptions.TaskCancelled"


@pytest.mark.parametrize("task", [tasks.mark_and_sleep, tasks.sleep_in_a_program])
def test_c37_a_running_task_is_interrupted_by_cancel(site, start_worker, marker, task):
    result = task.enqueue(marker, 60)
    next_one = tasks.noop.enqueue()
    start_worker()
    begun(marker)
    result.cancel()
    assert result.wait(SOON)
    assert result.status == FAILED
    assert kinds(site, result) == ["cancelled"]
    # The process goes on with the next task.
    assert next_one.wait(SOON)


def test_c37_a_task_that_does_not_mind_is_killed(site, start_worker, marker):
    result = tasks.stubborn.enqueue(marker)
    next_one = tasks.noop.enqueue()
    start_worker()
    begun(marker)
    result.cancel()
    assert result.wait(SOON)
    assert kinds(site, result) == ["cancelled"]
    assert next_one.wait(SOON)
    assert not is_alive(runs(marker)[0])


def test_c37_a_task_in_a_thread_can_look_whether_it_is_cancelled(site, start_worker, marker):
    result = tasks.wait_for_cancel.enqueue(marker)
    start_worker("--threads")
    begun(marker)
    result.cancel()
    assert result.wait(SOON)
    assert site.task(result)["status"] == "CANCELLED"


def test_a_finished_task_cannot_be_cancelled(site, run_all):
    from django_nightshift.exceptions import TaskAlreadyFinished

    result = tasks.noop.enqueue()
    run_all()
    with pytest.raises(TaskAlreadyFinished):
        result.cancel()
    result.refresh()
    assert result.status == SUCCESSFUL


@pytest.mark.parametrize("limit", ["task", "worker"])
@POOLS
def test_c39_a_task_that_takes_too_long(site, start_worker, marker, limit, pool):
    task = tasks.mark_and_sleep.using(timeout=0.5) if limit == "task" else tasks.mark_and_sleep
    # Short in a thread, which cannot be stopped.
    result = task.enqueue(marker, 3 if pool else 60)
    next_one = tasks.noop.enqueue()
    start_worker(*pool, *(["--timeout", "0.5"] if limit == "worker" else []))
    assert result.wait(SOON)
    assert result.status == FAILED
    cls = result.exception_class if OLD else result.errors[0].exception_class
    assert issubclass(cls, TimeoutError)
    assert next_one.wait(SOON)
    assert len(runs(marker)) == 1


@pytest.mark.parametrize("skew", ["+2d", "-2d"])
def test_a_worker_whose_clock_is_wrong(site, run_all, skew):
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    result = tasks.add.using(timeout=60).enqueue(1, 2)
    run_all(LD_PRELOAD=str(library), FAKETIME=skew, FAKETIME_DONT_FAKE_MONOTONIC="1")
    result.refresh()
    assert (result.status, result.return_value) == (SUCCESSFUL, 3)


def test_c40_retries(site, run_all, marker):
    result = tasks.mark_and_fail.using(max_attempts=3, backoff={"initial_seconds": 0}).enqueue(
        marker
    )
    run_all()
    result.refresh()
    assert result.status == FAILED
    assert len(runs(marker)) == 3
    assert kinds(site, result) == ["exception"] * 3
    if not OLD:
        assert (len(result.errors), result.attempts) == (3, 3)


def test_tasks_are_tried_once_unless_they_say_otherwise(site, run_all, marker):
    result = tasks.mark_and_fail.enqueue(marker)
    run_all()
    result.refresh()
    assert result.status == FAILED and len(runs(marker)) == 1


def test_c49_a_unique_key_answers_with_the_live_task(site, run_all):
    unique = tasks.add.using(unique_key="k")
    first = unique.enqueue(1, 2)
    assert unique.enqueue(3, 4).id == first.id
    run_all()
    assert unique.enqueue(3, 4).id != first.id


def test_c22_queues(site, run_all):
    results = {
        name: tasks.noop.using(queue_name=name, backend="unchecked").enqueue()
        for name in ("default", "slow", "other")
    }

    def done():
        return {name for name, r in results.items() if site.task(r)["status"] == "SUCCESSFUL"}

    run_all()
    assert done() == {"default"}
    run_all("--queue-name", "*", "--exclude-queues", "other")
    assert done() == {"default", "slow"}
    run_all("--queue-name", "default,other")
    assert done() == {"default", "slow", "other"}


def test_max_tasks(site, start_worker):
    results = [tasks.noop.enqueue() for _ in range(5)]
    code, said = start_worker("--max-tasks", "2", "--worker-id", "w").ends()
    assert code == 0
    assert "Run maximum tasks (2) on worker=w - exiting gracefully." in said
    assert sum(site.task(r)["status"] == "SUCCESSFUL" for r in results) == 2


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--interval", "-1"], "Must be zero or greater"),
        (["--interval", "nan"], "Must be a finite"),
        (["--max-tasks", "0"], "Must be greater than zero"),
        (["--concurrency", "0"], "Must be greater than zero"),
        (["--timeout", "0"], "Must be greater than zero"),
        (["--worker-id", ""], "must not be empty"),
        (["--worker-id", "x" * 65], "shorter than 64"),
        (["--exclude-queues", "a"], "can only be used with --queue-name"),
        (["--queue-name", ""], "names no queue"),
        (["--backend", "nothing"], "nothing"),
    ],
)
def test_bad_arguments(start_worker, arguments, reason):
    code, said = start_worker(*arguments).ends()
    assert code != 0 and reason in said


@POOLS
def test_c23_concurrency(site, run_all, marker, pool):
    results = [tasks.mark_and_sleep.enqueue(marker, 0.2) for _ in range(12)]
    run_all("--concurrency", "4", *pool)
    records = [site.task(r) for r in results]
    assert all(len(r["worker_ids"]) == 1 and r["status"] == "SUCCESSFUL" for r in records)
    assert len(runs(marker)) == 12
    if not pool:
        assert len(set(runs(marker))) == 4


def test_sites_with_namespaces_share_a_service(site, run_all):
    ours = tasks.add.using(backend="saguaro").enqueue(1, 2)
    theirs = tasks.add.enqueue(3, 4)
    assert site.task(ours)["task_path"] == "saguaro:site_app.tasks.add"
    run_all("--backend", "saguaro")
    ours.refresh()
    theirs.refresh()
    assert (ours.status, ours.return_value, theirs.status) == (SUCCESSFUL, 3, READY)
    assert ours.task.module_path == "site_app.tasks.add"


def test_the_registration_is_left_as_it_is(site, run_all):
    site.put("/executors/django", {"kind": "worker", "task_paths": ["*"], "concurrency": 3})
    run_all()
    assert site.get("/executors/django")["concurrency"] == 3


def test_an_executor_that_is_called_has_no_workers(site, start_worker):
    url = "http://127.0.0.1:9/"
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    site.put(
        "/executors/django", {"kind": "http", "url": url, "secret": secret, "task_paths": ["*"]}
    )
    code, said = start_worker("--batch").ends()
    assert code == 1 and "['executor'] to another name" in said


def test_a_worker_that_is_refused_finishes_what_runs(site, start_worker, marker):
    results = [tasks.mark_and_sleep.enqueue(marker, seconds) for seconds in (1, 3)]
    worker = start_worker("--concurrency", "2")
    begun(marker, 2)
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    called = {"kind": "http", "url": "http://127.0.0.1:9/", "secret": secret, "task_paths": ["*"]}
    site.put("/executors/django", called)
    # When the first one has ended, the worker asks for the next.
    code, said = worker.ends()
    assert code == 1 and "executor_not_worker" in said
    for result in results:
        result.refresh()
        assert (result.status, result.return_value) == (SUCCESSFUL, "slept")


def test_a_worker_waits_for_the_service(own_service, start_worker):
    own_service.stop()
    worker = start_worker(url=own_service.url)
    worker.says("asking on")
    own_service.start()
    worker.says("answers again")
    own_service.stop()
    worker.says("asking on")
    own_service.start()
    worker.says("answers again")
    worker.signal(signal.SIGTERM)
    assert worker.ends()[0] == 0


def test_a_task_outlives_a_restart_of_the_service(own_service, start_worker, marker):
    from conftest import point_to

    point_to(own_service.url)
    result = tasks.mark_and_sleep.enqueue(marker, 2)
    worker = start_worker(url=own_service.url)
    begun(marker)
    own_service.kill()
    own_service.start()
    assert result.wait(SOON)
    assert (result.status, len(runs(marker))) == (SUCCESSFUL, 1)
    worker.signal(signal.SIGTERM)
    assert worker.ends()[0] == 0


def test_a_changed_file_reloads_after_the_running_task(site, start_worker, marker, tmp_path):
    (tmp_path / "changing.py").write_text("")
    result = tasks.mark_and_sleep.enqueue(marker, 4)
    worker = start_worker(
        "--reload",
        PYTHONPATH=f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}",
        TEST_IMPORT="changing",
    )
    begun(marker)
    # The watcher takes what it finds first as unchanged.
    touched = itertools.count(2_000_000_000)

    def change():
        os.utime(tmp_path / "changing.py", (next(touched),) * 2)
        return any("changed, reloading" in line for line in worker.lines)

    until("reload", change)
    line = worker.says("changed, reloading")
    assert "changing.py" in line
    worker.says("Starting worker")
    result.refresh()
    assert result.status == SUCCESSFUL and len(runs(marker)) == 1
    next_one = tasks.noop.enqueue()
    assert next_one.wait(SOON)
    worker.signal(signal.SIGTERM)
    assert worker.ends()[0] == 0


def test_reload_and_batch_do_not_go_together(site, run_all):
    assert "cannot be specified together" in run_all("--reload")


def test_default_worker_ids_differ(site, run_all):
    ids = [re.search(r"worker_id=(\S+)", run_all())[1] for _ in range(2)]
    assert ids[0] != ids[1] and all(len(i) <= 64 for i in ids)
