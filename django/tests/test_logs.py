"""A log of which the service keeps the end only says so."""

import asyncio
from datetime import datetime, timezone

import pytest
from django.test import override_settings
from django_nightshift.testing import memory

from conftest import HTTP
from site_app import tasks

LINES = 11_000
AT_ONCE = 1_000


@pytest.fixture
def logged(site):
    """Makes a task that has written so many lines."""
    site.put("/executors/any", {"kind": "worker", "task_paths": ["*"]})

    def log(count):
        result = tasks.noop.enqueue()
        (lease,) = post(site, "/executors/any/leases", {"worker_id": "w"})["leases"]
        for first in range(1, count + 1, AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, count + 1))
            now = datetime.now(timezone.utc).isoformat()
            lines = [{"at": now, "level": "info", "message": f"line {n}"} for n in numbers]
            post(site, f"/leases/{lease['token']}/renew", {"logs": lines})
        post(site, f"/leases/{lease['token']}/finish", {"return_value": None})
        return result

    return log


def post(site, path, body):
    answer = HTTP.post(site.url + path, json=body)
    answer.raise_for_status()
    return answer.json()


def test_the_log_says_how_many_lines_were_left_out(logged):
    short, long = logged(3), logged(LINES)
    for logs in (long.logs, asyncio.run(long.alogs())):
        assert logs.dropped + len(logs) == LINES
        assert logs.dropped > 0
        assert logs[-1].message == f"line {LINES}"
        assert logs[0].message == f"line {logs.dropped + 1}"
    assert (len(short.logs), short.logs.dropped) == (3, 0)
    assert short.logs == list(short.logs)
    assert repr(long.logs).endswith(f"dropped={long.logs.dropped})")


def test_the_admin_says_so(logged, admin):
    long, short = logged(LINES), logged(3)
    page = admin.get(f"/admin/django_nightshift/task/{long.id}/change/").content.decode()
    assert f"{long.logs.dropped} older lines were left out" in page
    assert "There are more lines" in page
    page = admin.get(f"/admin/django_nightshift/task/{short.id}/change/").content.decode()
    assert "line 3" in page and "left out" not in page and "There are more" not in page


def test_so_does_that_of_a_backend_for_tests(monkeypatch):
    monkeypatch.setattr(memory, "LOG_LINES_MAX", 2)
    backend = {"BACKEND": "django_nightshift.testing.ImmediateBackend"}
    with override_settings(TASKS={"default": backend}):
        logs = tasks.write_lines.enqueue(5).logs
    assert ([line.message for line in logs], logs.dropped) == (["line 4", "line 5"], 3)
