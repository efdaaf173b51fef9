"""`django_nightshift.testing`: what a site's own tests use in the place of service and worker."""

import asyncio
import logging
import threading
import unittest
from datetime import timedelta

import django
import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.test import TestCase, TransactionTestCase, override_settings
from django.utils import timezone
from django_nightshift.compat import (
    STATUS,
    BaseTaskResult,
    InvalidTask,
    InvalidTaskBackend,
    TaskError,
    TaskResultDoesNotExist,
    task_backends,
    task_enqueued,
    task_finished,
)
from django_nightshift.exceptions import TaskAlreadyFinished
from django_nightshift.testing import DummyBackend, ImmediateBackend, run_tasks

from site_app import tasks

READY, FAILED, SUCCESSFUL = (STATUS[word] for word in ("READY", "FAILED", "SUCCESSFUL"))


def use(name, **options):
    backend = {
        "BACKEND": f"django_nightshift.testing.{name}",
        "QUEUES": ["default", "slow"],
        "OPTIONS": options,
    }
    return override_settings(TASKS={"default": backend})


@pytest.fixture
def immediate():
    with use("ImmediateBackend"):
        yield task_backends["default"]


@pytest.fixture
def dummy():
    with use("DummyBackend"):
        yield task_backends["default"]


def error_of(result):
    """The path of the class of its last error."""
    if TaskError is None:
        return f"{result.exception_class.__module__}.{result.exception_class.__qualname__}"
    return result.errors[-1].exception_class_path


def runs(case, *names):
    """Runs these tests of a TestCase, which have to pass."""
    outcome = unittest.TestResult()
    unittest.TestSuite([case(name) for name in names]).run(outcome)
    assert outcome.wasSuccessful(), [text for _, text in outcome.errors + outcome.failures]


def test_an_immediate_task_has_ended_when_it_is_enqueued(immediate):
    result = tasks.add.enqueue(1, 2)
    assert isinstance(result, BaseTaskResult) and isinstance(immediate, ImmediateBackend)
    assert (result.status, result.return_value) == (SUCCESSFUL, 3)
    assert result.enqueued_at <= result.started_at <= result.finished_at
    assert tasks.add.get_result(result.id) == result
    failed = tasks.fail.enqueue()
    assert (failed.status, error_of(failed)) == (FAILED, "builtins.ValueError")
    assert tasks.return_object.enqueue().status == FAILED


@pytest.mark.parametrize("name", ["ImmediateBackend", "DummyBackend"])
def test_all_options_are_taken(name):
    """Those of a backend, of `using` and of the decorator."""
    everything = {
        "timeout": 30,
        "max_attempts": 3,
        "backoff": {"initial_seconds": 1},
        "unique_key": "one",
        "expires_at": timezone.now() + timedelta(hours=1),
        "enqueue_on_commit": False,
    }
    with use(name, timeout=7, max_attempts=2, token="t", namespace="saguaro", executor="e"):
        result = tasks.noop.using(priority=5, queue_name="slow", **everything).enqueue()
        task = task_backends["default"].results[0].task
        assert (task.timeout, task.unique_key, task.queue_name) == (30, "one", "slow")
        assert result.task.module_path == "site_app.tasks.noop"
        with pytest.raises(InvalidTask):
            tasks.noop.using(queue_name="other")
        with pytest.raises(TypeError):
            tasks.noop.using(no_such_option=1)
        if django.VERSION >= (6, 1):
            made = tasks.task(timeout=30, unique_key="x")(tasks.not_a_task)
            assert (made.timeout, made.unique_key) == (30, "x")


def test_the_rules_of_values_are_those_of_the_service(immediate):
    for value, error in ((object(), TypeError), (float("nan"), ValueError)):
        with pytest.raises(error):
            tasks.echo.enqueue(value)
    result = tasks.echo.enqueue((1, 2), a={"1": 2})
    assert result.return_value == [[[1, 2]], {"a": {"1": 2}}]
    assert immediate.get_result(result.id).args == [[1, 2]]
    with pytest.raises(TaskResultDoesNotExist):
        tasks.echo.get_result("unknown")


def test_a_result_can_what_that_of_the_service_can(dummy):
    result = tasks.noop.enqueue()
    assert (result.status, result.progress, result.logs) == (READY, None, [])
    assert result.wait(3600) is False
    assert result.wait() is False
    result.cancel()
    assert result.status == FAILED
    assert error_of(result) == "django_nightshift.exceptions.TaskCancelled"
    result.cancel()
    assert result.wait() is True
    assert run_tasks() == []
    done = tasks.noop.enqueue()
    run_tasks()
    with pytest.raises(TaskAlreadyFinished):
        done.cancel()
    asyncio.run(done.arefresh())
    assert asyncio.run(done.await_(5)) is True
    assert asyncio.run(done.alogs()) == []


def test_what_a_task_says_is_kept(immediate, tmp_path):
    handlers = list(logging.getLogger().handlers)
    (tmp_path / "marker.go").touch()
    result = tasks.talk.enqueue(str(tmp_path / "marker"))
    assert result.progress == (0.4, "2 of 5")
    assert [(line.level, line.message, line.attempt) for line in result.logs][:1] == [
        ("warning", "a line of the task", 1)
    ]
    assert logging.getLogger().handlers == handlers


def test_signals_are_sent(dummy):
    heard = []

    def hear(sender, task_result, **_):
        heard.append((sender, task_result.id, task_result.status))

    for signal in (task_enqueued, task_finished):
        signal.connect(hear)
    try:
        result = tasks.noop.enqueue()
        run_tasks()
    finally:
        for signal in (task_enqueued, task_finished):
            signal.disconnect(hear)
    assert heard == [(DummyBackend, result.id, READY), (DummyBackend, result.id, SUCCESSFUL)]


def test_run_tasks_runs_in_the_order_of_the_service(dummy):
    later = tasks.noop.using(run_after=timedelta(hours=1)).enqueue()
    first = tasks.add.enqueue(1, 2)
    second = tasks.fail.enqueue()
    urgent = tasks.echo.using(priority=10).enqueue()
    assert [result.id for result in dummy.results] == [later.id, first.id, second.id, urgent.id]
    ran = run_tasks()
    assert [result.id for result in ran] == [urgent.id, first.id, second.id]
    assert [result.status for result in ran] == [SUCCESSFUL, SUCCESSFUL, FAILED]
    assert run_tasks() == []
    assert [result.id for result in run_tasks(later=True)] == [later.id]
    assert first.status == READY
    first.refresh()
    assert first.return_value == 3


def test_an_immediate_task_with_a_later_time_waits_for_it(immediate):
    result = tasks.add.using(run_after=timedelta(hours=1)).enqueue(1, 2)
    assert (result.status, run_tasks()) == (READY, [])
    assert [done.return_value for done in run_tasks(later=True)] == [3]


def test_attempts_a_unique_key_and_an_expiry(dummy, tmp_path):
    path = tmp_path / "marks"
    failing = tasks.mark_and_fail.using(max_attempts=3, unique_key="k").enqueue(str(path))
    again = tasks.mark_and_fail.using(unique_key="k").enqueue(str(path))
    assert failing.id == again.id
    gone = tasks.noop.using(expires_at=timezone.now() - timedelta(seconds=1)).enqueue()
    run_tasks()
    assert len(path.read_text().splitlines()) == 3
    for result, path in ((failing, "builtins.RuntimeError"), (gone, "TaskExpired")):
        result.refresh()
        assert result.status == FAILED and error_of(result).endswith(path)
    assert tasks.mark_and_fail.using(unique_key="k").enqueue(str(tmp_path / "m")).id != failing.id
    if TaskError is not None:
        assert (len(failing.errors), failing.attempts) == (3, 3)


def test_asynchronous_tasks_and_callers(immediate):
    assert tasks.asynchronous.enqueue(4).return_value == {"value": 4}
    result = asyncio.run(tasks.asynchronous.aenqueue(5))
    assert result.return_value == {"value": 5}


def test_tasks_that_enqueue_tasks_are_run_but_not_for_ever(dummy):
    assert tasks.enqueue_again.enqueue(3) is not None
    assert [result.args for result in run_tasks()] == [[3], [2], [1], [0]]
    tasks.enqueue_again.enqueue(10**6)
    with pytest.raises(RuntimeError, match=r"50 tasks ran, and site_app.tasks.enqueue_again is"):
        run_tasks(limit=50)


def test_the_person_before_the_terminal_can_interrupt(immediate):
    with pytest.raises(KeyboardInterrupt):
        tasks.interrupt.enqueue()


def test_tasks_of_other_threads_are_run(dummy):
    thread = threading.Thread(target=lambda: tasks.add.enqueue(1, 2))
    thread.start()
    thread.join()
    assert [result.return_value for result in run_tasks()] == [3]


class Rows(TestCase):
    """A test of a site: what it enqueues is about rows that nobody else will ever see."""

    __test__ = False  # not by pytest, but below

    def test_nothing_is_left_of_another_test(self):
        assert run_tasks() == []
        user = User.objects.create_user("row")
        result = tasks.user_name.enqueue(user.pk)
        assert [done.return_value for done in run_tasks()] == ["row"]
        result.refresh()
        tasks.user_name.enqueue(user.pk)

    test_nor_of_this_one = test_nothing_is_left_of_another_test

    def test_what_waits_for_a_commit_is_run(self):
        with transaction.atomic():
            user = User.objects.create_user("row")
            result = tasks.user_name.enqueue(user.pk)
            assert result.enqueued_at is None
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            tasks.fail.enqueue()
            raise ZeroDivisionError
        assert task_backends["default"].results == []
        assert [done.return_value for done in run_tasks()] == ["row"]
        assert run_tasks() == []
        result.refresh()
        assert result.return_value == "row"

    def test_what_a_played_commit_sends_is_run_once(self):
        with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
            tasks.add.enqueue(1, 2)
        assert len(task_backends["default"].results) == 1
        assert [done.return_value for done in run_tasks()] == [3]
        assert run_tasks() == []

    def test_tasks_of_tasks_wait_for_a_commit_too(self):
        tasks.enqueue_in_a_transaction.enqueue(2)
        assert [done.args for done in run_tasks()] == [[2], [1], [0]]


class TwoDatabases(TestCase):
    __test__ = False
    databases = {"default", "other"}

    def test_what_waits_for_both_is_run(self):
        with transaction.atomic(using="other"), transaction.atomic():
            tasks.add.enqueue(1, 2)
        with pytest.raises(ZeroDivisionError), transaction.atomic(using="other"):
            with transaction.atomic():
                tasks.fail.enqueue()
            raise ZeroDivisionError
        assert [done.return_value for done in run_tasks()] == [3]


class AtOnce(TestCase):
    __test__ = False

    def test_a_task_runs_at_once_though_the_test_is_a_transaction(self):
        user = User.objects.create_user("row")
        assert tasks.user_name.enqueue(user.pk).return_value == "row"
        with transaction.atomic():
            waiting = tasks.user_name.enqueue(user.pk)
            told = tasks.add.using(enqueue_on_commit=False).enqueue(1, 2)
            assert (waiting.status, told.return_value) == (READY, 3)
        run_tasks()
        assert waiting.return_value == "row"


class Committed(TransactionTestCase):
    __test__ = False
    available_apps = ["django.contrib.auth", "django.contrib.contenttypes"]

    def test_a_commit_sends(self):
        with transaction.atomic():
            user = User.objects.create_user("row")
            result = tasks.user_name.enqueue(user.pk)
            assert result.status == READY
        assert result.return_value == "row"


def test_tests_of_a_site_with_the_dummy_backend(database, dummy):
    runs(Rows, *unittest.TestLoader().getTestCaseNames(Rows))
    connections["other"].ensure_connection()
    runs(TwoDatabases, "test_what_waits_for_both_is_run")


def test_tests_of_a_site_with_the_immediate_backend(database, immediate):
    runs(AtOnce, "test_a_task_runs_at_once_though_the_test_is_a_transaction")
    runs(Committed, "test_a_commit_sends")


def test_run_tasks_needs_a_backend_for_tests(site):
    with pytest.raises(InvalidTaskBackend, match=r"no backend of django_nightshift.testing"):
        run_tasks()


def test_what_a_backend_for_tests_cannot_do_is_said(dummy):
    with pytest.raises(CommandError, match=r"backends for tests do not know"):
        call_command("nightshift_register", verbosity=0)
    assert [message.id for message in dummy.check()] == []
    tasks.noop.enqueue()
    dummy.clear()
    assert dummy.results == []
