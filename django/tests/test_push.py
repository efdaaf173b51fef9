"""The push form: the service calls the site's view."""

import json
import signal
import subprocess
import sys
import time

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import Client
from django_nightshift.compat import STATUS, TaskError
from standardwebhooks import Webhook

from conftest import HTTP, SOON, TESTS, free_port, until
from site_app import tasks

SUCCESSFUL, FAILED = STATUS["SUCCESSFUL"], STATUS["FAILED"]


@pytest.fixture
def web(site, database, tmp_path):
    """The site behind a web server of its own, registered with the service."""
    import os

    port = free_port()
    log = open(tmp_path / "web.log", "wb")
    process = subprocess.Popen(
        [sys.executable, "manage.py", "runserver", "--noreload", "--skip-checks", str(port)],
        cwd=TESTS,
        stdout=log,
        stderr=log,
        env={
            **os.environ,
            "NIGHTSHIFT_SERVER": site.url,
            "TEST_SITE_DATABASE": str(tmp_path / "site.db"),
        },
    )
    url = f"http://127.0.0.1:{port}/nightshift/"

    def answers():
        try:
            return HTTP.get(url).status_code == 405
        except Exception:
            return False

    until("web server", answers)
    call_command("nightshift_register", url=url, verbosity=0)
    yield url
    process.send_signal(signal.SIGTERM)
    process.wait(SOON)


def test_tasks_run_in_the_web_server(site, web, tmp_path):
    added, failed, path = tasks.add.enqueue(1, 2), tasks.fail.enqueue(), tmp_path / "marker"
    talked = tasks.talk.enqueue(str(path))
    until("begin", path.exists)

    def progress():
        talked.refresh()
        return talked.progress

    assert until("progress", progress) == (0.4, "2 of 5")
    (tmp_path / "marker.go").touch()
    for result in (added, failed, talked):
        assert result.wait(SOON)
    assert (added.status, added.return_value) == (SUCCESSFUL, 3)
    assert failed.status == FAILED
    error = site.task(failed)["errors"][0]
    assert error["exception_class_path"] == "builtins.ValueError"
    assert error["traceback"].endswith("ValueError: This Task failed due to ValueError\n")
    assert [line.message for line in talked.logs] == ["a line of the task"]
    if TaskError is not None:
        assert added.worker_ids == ["django"]


def test_what_is_not_a_task_is_not_run(site, web):
    body = {"task_path": "subprocess.check_output", "args": [["touch", "/tmp/ran"]]}
    task_id = HTTP.post(f"{site.url}/tasks", json=body).json()["id"]
    task = HTTP.get(f"{site.url}/tasks/{task_id}", params={"wait": SOON}).json()
    assert (task["status"], task["attempts"]) == ("FAILED", 1)
    assert "SuspiciousOperation" in task["errors"][0]["exception_class_path"]


def call(message, secret=settings.PUSH_SECRET, at=None, **headers):
    from datetime import datetime, timezone

    body = message if isinstance(message, str) else json.dumps(message)
    now = datetime.fromtimestamp(at or time.time(), timezone.utc)
    signed = {
        "webhook-id": "1.1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("1.1", now, body),
    }
    return Client(enforce_csrf_checks=True).post(
        "/nightshift/", body, content_type="application/json", headers={**signed, **headers}
    )


EXECUTE = {
    "type": "task.execute",
    "timestamp": "2026-11-25T00:00:00Z",
    "data": {
        "task_id": "1",
        "task_path": "site_app.tasks.add",
        "args": [1, 2],
        "kwargs": {},
        "attempt": 1,
        "max_attempts": 1,
        "queue_name": "default",
        "priority": 0,
        "enqueued_at": "2026-11-25T00:00:00Z",
        "deadline": "2026-11-26T00:00:00Z",
        "lease": {"token": "t", "url": "http://127.0.0.1:9/leases/t"},
        "labels": {},
    },
}
OTHER_SECRET = "whsec_" + "A" * 32


def test_a_signed_call_is_answered(site):
    answer = call(EXECUTE)
    assert (answer.status_code, answer.content) == (200, b"3")


def test_calls_with_a_bad_signature_are_refused(site):
    assert call(EXECUTE, secret=OTHER_SECRET).status_code == 401
    assert call(EXECUTE, at=time.time() - 3600).status_code == 401
    assert call(EXECUTE, **{"webhook-id": "2.1"}).status_code == 401
    assert call(EXECUTE, **{"webhook-signature": "nonsense"}).status_code == 401
    assert Client().post("/nightshift/", {}).status_code == 401
    assert Client().get("/nightshift/").status_code == 405


def test_other_messages_are_refused(site):
    for message in ("", "[]", "{}", '{"type":"task.execute"}', {**EXECUTE, "data": {}}):
        assert call(message).status_code == 400
    assert call({**EXECUTE, "type": "other"}).status_code == 400
    assert call({**EXECUTE, "type": "task.cancel"}).status_code == 204


def test_a_task_that_is_not_there_is_not_found(site):
    for path, retryable in (("site_app.tasks.gone", True), ("os.getpid", False)):
        answer = call({**EXECUTE, "data": {**EXECUTE["data"], "task_path": path}})
        assert (answer.status_code, answer.json()["retryable"]) == (404, retryable)


def test_without_a_secret_a_site_is_not_registered(site):
    with pytest.raises(CommandError, match="'secrets'"):
        call_command("nightshift_register", url="http://127.0.0.1:1/", backend="unchecked")


def test_registering_workers(site, capsys):
    call_command(
        "nightshift_register",
        backend="saguaro",
        concurrency=3,
        lease_seconds=60,
        task_paths=["myapp.*"],
    )
    assert capsys.readouterr().out == "Registered saguaro of kind worker for saguaro:myapp.*\n"
    executor = site.get("/executors/saguaro")
    assert (executor["concurrency"], executor["lease_seconds"]) == (3, 60)
