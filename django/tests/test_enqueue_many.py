"""Many tasks with few requests."""

import asyncio

import pytest
from django.db import transaction
from django.test import override_settings
from django_nightshift import NightshiftBackend, backend
from django_nightshift.compat import STATUS, TaskResultDoesNotExist, task_enqueued
from django_nightshift.exceptions import ServiceUnavailable
from django_nightshift.testing import run_tasks

from conftest import free_port
from site_app import tasks

READY, SUCCESSFUL = STATUS["READY"], STATUS["SUCCESSFUL"]


def requests_of(service, monkeypatch):
    """Counts what is sent."""
    from django_nightshift.client import Service

    paths = []
    request = Service.request

    def counting(self, method, path, *rest, **more):
        paths.append(path)
        return request(self, method, path, *rest, **more)

    monkeypatch.setattr(Service, "request", counting)
    return paths


def test_many_tasks_are_enqueued_with_few_requests(site, monkeypatch):
    monkeypatch.setattr(backend, "PART_TASKS", 10)
    paths, heard = requests_of(site, monkeypatch), []

    def hear(task_result, **_):
        heard.append(task_result.id)

    task_enqueued.connect(hear, sender=NightshiftBackend)
    try:
        results = tasks.echo.using(queue_name="slow").enqueue_many((n,) for n in range(25))
    finally:
        task_enqueued.disconnect(hear, sender=NightshiftBackend)
    assert paths == ["/tasks/batch"] * 3
    assert heard == [result.id for result in results]
    assert {result.status for result in results} == {READY}
    for number in (0, 9, 10, 24):
        record = site.task(results[number])
        assert (record["args"], record["queue_name"]) == ([number], "slow")
        results[number].refresh()
        assert results[number].enqueued_at is not None


def test_calls_have_positional_or_named_arguments(site, run_all):
    results = tasks.echo.enqueue_many([(1, "two"), [3], {"four": 4}, ()])
    run_all()
    for result in results:
        result.refresh()
    values = [result.return_value for result in results]
    assert values == [[[1, "two"], {}], [[3], {}], [[], {"four": 4}], [[], {}]]
    assert tasks.echo.enqueue_many([]) == []
    assert len(asyncio.run(tasks.echo.aenqueue_many([(1,), (2,)]))) == 2


@pytest.mark.parametrize("call", ["text", 5, None, (object(),)])
def test_with_one_wrong_call_nothing_is_enqueued(site, call):
    with pytest.raises(TypeError):
        tasks.echo.enqueue_many([(1,), call])
    assert site.get("/tasks")["items"] == []


def test_large_arguments_are_sent_in_several_requests(site, monkeypatch):
    paths = requests_of(site, monkeypatch)
    results = tasks.echo.enqueue_many([("x" * 600_000,), ("y" * 600_000,), ("z",)])
    assert paths == ["/tasks/batch"] * 2
    assert [site.task(result)["args"][0][0] for result in results] == ["x", "y", "z"]


def test_a_unique_key_makes_one_task_of_them(site):
    first, second = tasks.noop.using(unique_key="k").enqueue_many([(), ()])
    assert first.id == second.id
    assert len(site.get("/tasks")["items"]) == 1


def test_they_wait_for_the_commit(site, database):
    with transaction.atomic():
        results = tasks.echo.enqueue_many([(1,), (2,)])
        assert site.get("/tasks")["items"] == []
    assert [site.task(result)["args"] for result in results] == [[1], [2]]
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        (dropped,) = tasks.echo.enqueue_many([(3,)])
        raise ZeroDivisionError
    with pytest.raises(TaskResultDoesNotExist):
        dropped.refresh()


def test_a_commit_names_all_that_were_not_sent(site, database, caplog):
    url = f"http://127.0.0.1:{free_port()}"
    away = NightshiftBackend("default", {"OPTIONS": {"url": url, "request_timeout": 0.2}})
    with pytest.raises(ServiceUnavailable), transaction.atomic():
        results = away.enqueue_many(tasks.echo, [(1,), (2,)])
    said = [record.getMessage() for record in caplog.records]
    assert [result.id in line for result, line in zip(results, said, strict=True)] == [True, True]


@pytest.mark.parametrize("name", ["ImmediateBackend", "DummyBackend"])
def test_backends_for_tests_can_do_it(name):
    settings = {"BACKEND": f"django_nightshift.testing.{name}"}
    with override_settings(TASKS={"default": settings}):
        results = tasks.add.enqueue_many([(1, 2), {"a": 3, "b": 4}])
        assert len(run_tasks()) == (2 if name == "DummyBackend" else 0)
        for result in results:
            result.refresh()
        assert [result.return_value for result in results] == [3, 7]
