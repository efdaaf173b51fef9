"""Enqueuing, and what comes back, by the framework's own API."""

import asyncio
from datetime import datetime, timedelta, timezone
from importlib import import_module, metadata

import pytest
from django.core.exceptions import SuspiciousOperation
from django_nightshift import NightshiftBackend
from django_nightshift.compat import (
    FRAMEWORK,
    STATUS,
    BaseTaskResult,
    InvalidTask,
    TaskError,
    TaskResultDoesNotExist,
    task_backends,
)

from conftest import HTTP, direct
from site_app import tasks

OLD = TaskError is None
READY, RUNNING, FAILED, SUCCESSFUL = (
    STATUS[word] for word in ("READY", "RUNNING", "FAILED", "SUCCESSFUL")
)
NOW = datetime.now(timezone.utc)


def error_of(result):
    """The class path and the traceback, in both generations of the API."""
    if OLD:
        cls = result.exception_class
        return f"{cls.__module__}.{cls.__qualname__}", result.traceback
    return result.errors[0].exception_class_path, result.errors[0].traceback


def test_c01_enqueue_returns_at_once(site):
    result = tasks.echo.enqueue(1, "two", three=[3])
    assert result.status == READY
    assert (result.args, result.kwargs) == ([1, "two"], {"three": [3]})
    assert result.enqueued_at is not None
    assert result.started_at is None and result.finished_at is None
    assert not result.is_finished
    if not OLD:
        assert (result.errors, result.worker_ids, result.attempts) == ([], [], 0)
        assert result.last_attempted_at is None


def test_c02_the_id_finds_an_equal_result(site):
    result = tasks.add.enqueue(1, 2)
    assert isinstance(result, BaseTaskResult)
    assert isinstance(result.id, str) and len(result.id) <= 63
    assert tasks.add.get_result(result.id) == result
    assert task_backends["default"].get_result(result.id) == result
    assert tasks.add.enqueue(1, 2).id != result.id


@pytest.mark.parametrize("task_id", ["123", "", "a/b?c#d", "../tasks", "é\0", "9" * 500])
def test_c03_an_unknown_id_does_not_exist(site, task_id):
    with pytest.raises(TaskResultDoesNotExist):
        tasks.add.get_result(task_id)
    with pytest.raises(TaskResultDoesNotExist):
        asyncio.run(tasks.add.aget_result(task_id))


def test_c04_the_id_of_another_task_is_a_mismatch(site):
    result = tasks.add.enqueue(1, 2)
    exceptions = import_module(f"{FRAMEWORK}.exceptions")
    mismatch = getattr(exceptions, "TaskResultMismatch", TaskResultDoesNotExist)
    with pytest.raises(mismatch) as error:
        tasks.noop.get_result(result.id)
    if FRAMEWORK == "django.tasks":
        assert "Task does not match" in str(error.value)


def test_c05_a_result_stays_as_it_was_until_it_is_refreshed(site, run_all):
    result = tasks.add.enqueue(1, 2)
    run_all()
    assert result.status == READY
    result.refresh()
    assert result.status == SUCCESSFUL
    assert result.return_value == 3


def test_c06_success(site, run_all):
    result = tasks.echo.enqueue((1, 2), a={"1": "2"})
    run_all("--worker-id", "w1")
    result.refresh()
    assert result.status == SUCCESSFUL and result.is_finished
    assert result.enqueued_at <= result.started_at <= result.finished_at
    assert result.return_value == [[[1, 2]], {"a": {"1": "2"}}]
    if not OLD:
        assert (result.attempts, result.worker_ids) == (1, ["w1"])
        assert result.last_attempted_at == result.started_at


def test_c07_a_task_that_returns_nothing_succeeds(site, run_all):
    result = tasks.noop.enqueue()
    run_all()
    result.refresh()
    assert (result.status, result.return_value) == (SUCCESSFUL, None)


def test_c08_there_is_no_return_value_before_the_end_or_after_a_failure(site, run_all):
    result = tasks.fail.enqueue()
    with pytest.raises(ValueError, match="Task has not finished yet"):
        result.return_value
    run_all()
    result.refresh()
    if OLD and metadata.version("django-tasks").startswith("0.6."):
        assert result.return_value is None
    else:
        with pytest.raises(ValueError, match="Task failed"):
            result.return_value


@pytest.mark.parametrize(
    ("task", "path", "end"),
    [
        (tasks.fail, "builtins.ValueError", "ValueError: This Task failed due to ValueError\n"),
        (tasks.exit_process, "builtins.SystemExit", "SystemExit: 3\n"),
        (tasks.interrupt, "builtins.KeyboardInterrupt", "KeyboardInterrupt\n"),
        (tasks.fail_oddly, "builtins.ValueError", ")\n"),
        (tasks.return_nan, "builtins.ValueError", "\n"),
    ],
)
def test_c09_c10_c12_c51_what_a_task_raises_is_its_outcome(site, run_all, task, path, end):
    result = task.enqueue()
    next_one = tasks.noop.enqueue()
    run_all()
    result.refresh()
    next_one.refresh()
    assert result.status == FAILED
    assert error_of(result)[0] == path
    assert error_of(result)[1].endswith(end), error_of(result)[1]
    assert next_one.status == SUCCESSFUL
    assert OLD or len(result.errors) == 1


def test_c11_a_return_value_that_is_not_json_fails(site, run_all):
    result = tasks.return_object.enqueue()
    run_all()
    result.refresh()
    assert result.status == FAILED
    assert error_of(result)[0] == "builtins.TypeError"


@pytest.mark.parametrize("value", [{1, 2}, object(), NOW, 1j])
def test_c13_an_argument_that_is_not_json_is_refused(site, value):
    with pytest.raises(TypeError):
        tasks.echo.enqueue(value)
    with pytest.raises(TypeError):
        tasks.echo.enqueue(key=value)
    assert site.get("/tasks")["items"] == []


VALUES = [10**40, -(10**40), 1e-7, 1.5, "\0", "\ud800", "é🚀", True, None, {"b": 1, "a": [2]}]


def test_c14_values_come_back_as_they_were(site, run_all):
    deep = []
    for _ in range(90):
        deep = [deep]
    values = [*VALUES, deep, "x" * 1_000_000]
    result = tasks.echo.enqueue(*values)
    assert tasks.echo.get_result(result.id).args == values
    run_all()
    result.refresh()
    assert result.return_value == [values, {}]
    assert list(result.return_value[0][9]) == ["b", "a"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [-float("inf")]])
def test_c15_not_a_number_is_refused(site, value):
    with pytest.raises(ValueError, match="JSON"):
        tasks.echo.enqueue(value)
    assert site.get("/tasks")["items"] == []


def test_c16_priorities(site):
    for priority in (-100, 0, 100, 3.0):
        result = tasks.noop.using(priority=priority).enqueue()
        assert site.task(result)["priority"] == priority
    for priority in (-101, 101, 3.1):
        with pytest.raises(InvalidTask, match="priority must be a whole number between -100"):
            tasks.noop.using(priority=priority)


def test_c17_only_queues_of_the_settings(site):
    with pytest.raises(InvalidTask, match="Queue 'unknown' is not valid for backend"):
        tasks.noop.using(queue_name="unknown")
    result = tasks.noop.using(queue_name="unknown", backend="unchecked").enqueue()
    assert site.task(result)["queue_name"] == "unknown"


def test_c18_a_naive_time_is_refused(site):
    with pytest.raises(InvalidTask, match="run_after must be an aware datetime"):
        tasks.noop.using(run_after=datetime(2030, 1, 1))


def test_c19_a_later_task_waits(site, run_all):
    later = tasks.noop.using(run_after=NOW + timedelta(hours=1)).enqueue()
    past = tasks.noop.using(run_after=NOW - timedelta(hours=1)).enqueue()
    soon = tasks.noop.using(run_after=timedelta(hours=2)).enqueue()
    assert tasks.noop.get_result(soon.id) == soon
    assert soon.task.run_after > NOW + timedelta(hours=1)
    run_all()
    statuses = [tasks.noop.get_result(r.id).status for r in (later, past, soon)]
    assert statuses == [READY, SUCCESSFUL, READY]


def test_c25_a_path_that_is_gone(site, run_all):
    body = {"task_path": "site_app.tasks.gone", "max_attempts": 1}
    task_id = HTTP.post(f"{site.url}/tasks", json=body).json()["id"]
    next_one = tasks.noop.enqueue()
    said = run_all()
    result = task_backends["default"].get_result(task_id)
    assert result.status == FAILED
    assert error_of(result)[0] == "builtins.ImportError"
    assert result.task.module_path == "site_app.tasks.gone"
    assert f"Task id={task_id} failed unexpectedly" in said
    assert tasks.noop.get_result(next_one.id).status == SUCCESSFUL


@pytest.mark.parametrize("path", ["subprocess.check_output", "site_app.tasks.not_a_task"])
def test_c26_what_is_not_a_task_is_never_run(site, run_all, path, tmp_path):
    body = {"task_path": path, "args": [["touch", str(tmp_path / "ran")]], "max_attempts": 5}
    task_id = HTTP.post(f"{site.url}/tasks", json=body).json()["id"]
    run_all()
    result = task_backends["default"].get_result(task_id)
    assert result.status == FAILED
    assert error_of(result)[0] == f"{SuspiciousOperation.__module__}.SuspiciousOperation"
    assert not (tmp_path / "ran").exists()


def test_c48_the_result_of_a_renamed_task_is_readable(site, run_all, monkeypatch):
    result = tasks.add.enqueue(2, 3)
    run_all()
    monkeypatch.delattr(tasks, "add")
    found = task_backends["default"].get_result(result.id)
    assert (found.status, found.return_value, found.args) == (SUCCESSFUL, 5, [2, 3])
    assert (found.task.module_path, found.task.name) == ("site_app.tasks.add", "add")
    with pytest.raises(ImportError):
        found.task.func()


def test_c48_a_queue_may_leave_the_settings(site):
    result = tasks.noop.using(queue_name="gone", backend="unchecked").enqueue()
    assert task_backends["default"].get_result(result.id).task.queue_name == "gone"


@pytest.mark.skipif(OLD, reason="django-tasks before 0.8 has no list of errors")
def test_c52_an_error_of_another_language_is_readable(site):
    result = tasks.noop.enqueue()
    site.put("/executors/other", {"kind": "worker", "task_paths": ["*"]})
    lease = {"worker_id": "w"}
    token = HTTP.post(f"{site.url}/executors/other/leases", json=lease).json()["leases"][0]["token"]
    error = {"exception_class_path": "java.lang.NullPointerException", "message": "no"}
    HTTP.post(f"{site.url}/leases/{token}/finish", json={"error": error}).raise_for_status()
    result.refresh()
    assert result.errors[0].exception_class_path == "java.lang.NullPointerException"
    assert result.errors[0].traceback == "java.lang.NullPointerException: no\n"
    with pytest.raises(ImportError):
        result.errors[0].exception_class


def test_c53_async_calls_do_not_block_the_loop(site, run_all):
    """Other coroutines go on while a slow service is asked."""
    import socket

    async def ticks_while(awaitable):
        ticks = 0
        pending = asyncio.ensure_future(awaitable)
        while not pending.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks, pending.exception()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        backend = NightshiftBackend(
            "default",
            {
                "OPTIONS": {
                    "url": f"http://127.0.0.1:{silent.getsockname()[1]}",
                    "request_timeout": 2.0,
                }
            },
        )
        for call in (
            lambda: backend.aget_result("1"),
            lambda: backend.aenqueue(direct(tasks.asynchronous), [1], {}),
        ):
            ticks, error = asyncio.run(ticks_while(call()))
            assert type(error).__name__ == "ServiceUnavailable"
            assert ticks > 5
    result = asyncio.run(tasks.asynchronous.aenqueue(4))
    run_all()
    asyncio.run(result.arefresh())
    assert result.return_value == {"value": 4}
    assert asyncio.run(tasks.asynchronous.aget_result(result.id)) == result


def test_c55_waiting_and_unknown_are_told_apart(site):
    result = tasks.noop.enqueue()
    assert tasks.noop.get_result(result.id).status == READY
    with pytest.raises(TaskResultDoesNotExist):
        tasks.noop.get_result(result.id.replace(result.id[0], "f" if result.id[0] != "f" else "e"))


def test_a_result_can_be_waited_for(site, start_worker):
    result = tasks.add.enqueue(1, 1)
    assert result.wait(0.05) is False
    start_worker("--max-tasks", "1")
    assert result.wait(30) is True
    assert result.return_value == 2
    assert asyncio.run(result.await_(30)) is True


def test_unknown_words_of_a_later_service_are_read(site):
    from django_nightshift.results import status_of

    assert status_of({"status": "PAUSED", "finished_at": None}) == READY
    assert status_of({"status": "DISCARDED", "finished_at": "2026-01-01T00:00:00Z"}) == FAILED
