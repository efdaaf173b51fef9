"""Enqueuing within the site's transactions waits for their commit."""

import asyncio
import unittest
from functools import partial

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections, transaction
from django.test import TestCase
from django_nightshift import NightshiftBackend
from django_nightshift.compat import STATUS, TaskResultDoesNotExist, task_enqueued
from django_nightshift.exceptions import ServiceUnavailable

from conftest import free_port
from site_app import tasks

READY = STATUS["READY"]


def paths(site):
    """The names of the tasks that the service has, in the order in which they came."""
    items = site.get("/tasks")["items"]
    return [item["task_path"].removeprefix("site_app.tasks.") for item in reversed(items)]


def at_once(task, **changes):
    return task.using(enqueue_on_commit=False, **changes)


def backend(url, *, key=None, **options):
    return NightshiftBackend("default", {"OPTIONS": {"url": url, **options}, **(key or {})})


def test_c33_a_task_is_sent_by_the_commit(site, database):
    heard = []

    def hear(task_result, **_):
        heard.append(task_result.id)

    task_enqueued.connect(hear, sender=NightshiftBackend)
    try:
        with transaction.atomic():
            result = tasks.add.enqueue(1, 2)
            assert (result.status, result.enqueued_at) == (READY, None)
            assert (paths(site), heard) == ([], [])
    finally:
        task_enqueued.disconnect(hear, sender=NightshiftBackend)
    assert heard == [result.id]
    assert result.enqueued_at is not None
    assert tasks.add.get_result(result.id) == result


def test_c33_before_the_commit_there_is_no_such_task(site, database):
    with transaction.atomic():
        result = tasks.noop.enqueue()
        for ask in (
            lambda: tasks.noop.get_result(result.id),
            result.refresh,
            partial(result.wait, 30),
            result.cancel,
        ):
            with pytest.raises(TaskResultDoesNotExist):
                ask()
    result.refresh()
    assert result.status == READY


def test_c33_a_rollback_drops_the_task(site, database):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        dropped = tasks.noop.enqueue()
        raise ZeroDivisionError
    with pytest.raises(TaskResultDoesNotExist):
        tasks.noop.get_result(dropped.id)
    assert paths(site) == []


def test_a_rollback_to_a_savepoint_drops_what_was_enqueued_since(site, database):
    with transaction.atomic():
        tasks.noop.enqueue()
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            tasks.fail.enqueue()
            raise ZeroDivisionError
        with transaction.atomic():
            tasks.add.enqueue(1, 2)
        assert paths(site) == []
    assert paths(site) == ["noop", "add"]


def test_tasks_are_sent_in_the_order_in_which_they_were_enqueued(site, database):
    names = ["noop", "add", "echo", "fail", "talk", "add", "noop"]
    with transaction.atomic():
        for name in names:
            getattr(tasks, name).enqueue()
    assert paths(site) == names


def test_arguments_are_those_of_the_call(site, database):
    values = [1]
    with transaction.atomic():
        result = tasks.echo.enqueue(values)
        values.append(2)
        with pytest.raises(TypeError):
            tasks.echo.enqueue(object())
    assert site.task(result)["args"] == [[1]]


def test_outside_of_transactions_tasks_are_sent_at_once(site, database):
    assert tasks.noop.enqueue().enqueued_at is not None
    with transaction.atomic():
        transaction.on_commit(partial(tasks.add.enqueue, 1, 2))
        assert paths(site) == ["noop"]
    assert paths(site) == ["noop", "add"]


def test_c34_a_task_or_a_backend_may_be_told_not_to_wait(site, database):
    not_waiting = backend(site.url, enqueue_on_commit=False)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        at_once(tasks.noop).enqueue()
        asyncio.run(at_once(tasks.fail).aenqueue())
        not_waiting.enqueue(tasks.add, [1, 2], {})
        not_waiting.enqueue(tasks.talk.using(enqueue_on_commit=True), ["x"], {})
        raise ZeroDivisionError
    assert paths(site) == ["noop", "fail", "add"]


def test_the_former_key_is_honoured(site, database):
    with transaction.atomic():
        backend(site.url, key={"ENQUEUE_ON_COMMIT": False}).enqueue(tasks.noop, [], {})
        backend(site.url, key={"ENQUEUE_ON_COMMIT": True}).enqueue(tasks.add, [1, 2], {})
        assert paths(site) == ["noop"]
    assert paths(site) == ["noop", "add"]


@pytest.mark.parametrize(
    ("key", "options", "reason"),
    [
        ({}, {"enqueue_on_commit": "no"}, "['OPTIONS']['enqueue_on_commit'] is not True or False"),
        ({"ENQUEUE_ON_COMMIT": 0}, {}, "['ENQUEUE_ON_COMMIT'] is not True or False: 0"),
        (
            {"ENQUEUE_ON_COMMIT": True},
            {"enqueue_on_commit": False},
            "['ENQUEUE_ON_COMMIT'] says the opposite of",
        ),
    ],
)
def test_a_wrong_setting_is_named(key, options, reason):
    with pytest.raises(ImproperlyConfigured) as error:
        backend("http://127.0.0.1:1", key=key, **options)
    assert reason in str(error.value)


def test_transactions_of_all_databases_are_waited_for(site, database):
    with transaction.atomic(using="other"):
        with transaction.atomic():
            tasks.noop.enqueue()
            tasks.add.enqueue(1, 2)
        with transaction.atomic():
            assert paths(site) == []
    assert paths(site) == ["noop", "add"]
    with transaction.atomic(), pytest.raises(ZeroDivisionError), transaction.atomic(using="other"):
        tasks.fail.enqueue()
        raise ZeroDivisionError
    assert paths(site) == ["noop", "add"]


def test_enqueuing_opens_no_connection(site):
    connections["other"].close()
    del connections["other"]
    tasks.noop.enqueue()
    asyncio.run(tasks.noop.aenqueue())
    assert "other" not in [one.alias for one in connections.all(initialized_only=True)]


def test_without_autocommit_there_is_no_commit_to_wait_for(site, database):
    transaction.set_autocommit(False)
    try:
        with pytest.raises(transaction.TransactionManagementError, match="autocommit is off"):
            tasks.noop.enqueue()
        at_once(tasks.add).enqueue(1, 2)
        assert paths(site) == ["add"]
        with transaction.atomic():
            tasks.fail.enqueue()
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert paths(site) == ["add", "fail"]


def test_asynchronous_code_outside_of_transactions_sends_at_once(site, database):
    result = asyncio.run(tasks.noop.aenqueue())
    assert result.enqueued_at is not None
    assert paths(site) == ["noop"]


def test_asynchronous_code_within_a_transaction_waits_for_its_commit(site, database):
    """The transaction is in the thread of the synchronous code around it."""
    enqueue = async_to_sync(tasks.noop.aenqueue)
    with transaction.atomic():
        result = enqueue()
        assert (result.enqueued_at, paths(site)) == (None, [])
    assert result.enqueued_at is not None
    assert paths(site) == ["noop"]
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        enqueue()
        raise ZeroDivisionError
    assert paths(site) == ["noop"]


def test_a_transaction_in_the_event_loops_own_thread_is_waited_for(site, monkeypatch):
    """As in a notebook, where Django is told to let it be."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")

    async def enqueue():
        with transaction.atomic():
            result = await tasks.noop.aenqueue()
            assert (result.enqueued_at, paths(site)) == (None, [])
        assert result.enqueued_at is not None

    asyncio.run(enqueue())
    assert paths(site) == ["noop"]


def test_a_commit_says_that_the_service_is_away(site, database, caplog):
    away = backend(f"http://127.0.0.1:{free_port()}", request_timeout=0.2)
    with pytest.raises(ServiceUnavailable), transaction.atomic():
        result = away.enqueue(tasks.noop, [], {})
    assert [record.getMessage() for record in caplog.records] == [
        f"Task id={result.id} path=site_app.tasks.noop was not enqueued, though the transaction "
        "was committed"
    ]
    assert (result.status, result.enqueued_at) == (READY, None)
    assert not connection.in_atomic_block
    assert tasks.noop.enqueue().enqueued_at is not None


def test_a_test_case_never_commits_but_can_play_it(site, database):
    """What the documentation of this package and of Django says of tests."""

    class Enqueuing(TestCase):
        def test_it(self):
            dropped = tasks.add.enqueue(1, 2)
            with self.captureOnCommitCallbacks() as callbacks:
                tasks.fail.enqueue()
            with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
                result = tasks.noop.enqueue()
            assert (len(callbacks), dropped.enqueued_at) == (1, None)
            assert result.enqueued_at is not None

    outcome = unittest.TestResult()
    unittest.TestSuite([Enqueuing("test_it")]).run(outcome)
    assert outcome.wasSuccessful(), outcome.errors + outcome.failures
    assert paths(site) == ["noop"]


def test_with_a_unique_key_the_commit_brings_the_first_ones_id(site, database):
    unique = tasks.noop.using(unique_key="once")
    with transaction.atomic():
        first, second = unique.enqueue(), unique.enqueue()
        assert first.id != second.id
    assert first.id == second.id
