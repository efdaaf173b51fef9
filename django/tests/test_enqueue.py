"""Enqueuing where something is in the way: a service that is away, bad settings."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django_nightshift import NightshiftBackend
from django_nightshift.compat import (
    TaskResultDoesNotExist,
    task_backends,
    task_enqueued,
)
from django_nightshift.exceptions import ServiceRefused, ServiceUnavailable

from conftest import HTTP, TESTS, direct, free_port, point_to, until
from site_app import tasks


def backend(**options):
    return NightshiftBackend("default", {"OPTIONS": options})


def test_c35_a_lost_answer_enqueues_one_task(site):
    """The first answer is lost on the way; the repetition finds the task."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        port = proxy.getsockname()[1]

        def lose_the_first_answer():
            for loses in (True, False):
                client, _ = proxy.accept()
                with client:
                    request = client.recv(65536)
                    while b"\r\n\r\n" not in request or not request.endswith(b"}}"):
                        request += client.recv(65536)
                    with socket.create_connection(("127.0.0.1", site.port)) as server:
                        server.sendall(request)
                        answer = server.recv(65536)
                    if not loses:
                        client.sendall(answer)

        thread = threading.Thread(target=lose_the_first_answer)
        thread.start()
        result = backend(url=f"http://127.0.0.1:{port}").enqueue(direct(tasks.add), [1, 2], {})
        thread.join()
    assert [task["id"] for task in site.get("/tasks")["items"]] == [result.id]


def test_c44_a_service_that_is_down_is_one_error_in_bounded_time(site):
    for url in (f"http://127.0.0.1:{free_port()}", "http://localhost:1"):
        began = time.monotonic()
        with pytest.raises(ServiceUnavailable, match="cannot be reached, tried for 0.5 seconds"):
            backend(url=url, request_timeout=0.5).enqueue(direct(tasks.noop), [], {})
        assert time.monotonic() - began < 5


def test_c44_a_service_that_does_not_answer_is_not_waited_for(site):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(ServiceUnavailable):
            backend(url=url, request_timeout=0.5).enqueue(direct(tasks.noop), [], {})
        assert time.monotonic() - began < 5


def test_an_enqueue_outlives_a_restart_of_the_service(own_service):
    point_to(own_service.url)
    own_service.stop()
    starting = threading.Timer(0.5, own_service.start)
    starting.start()
    result = backend(url=own_service.url, request_timeout=20).enqueue(direct(tasks.noop), [], {})
    starting.join()
    assert own_service.task(result)["status"] == "READY"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"uri": "x"}, "has no option 'uri'"),
        ({"url": "localhost:8700"}, "['url'] is not an http or https address"),
        ({"request_timeout": 0}, "['request_timeout'] is not a number of seconds"),
        ({"timeout": "long"}, "['timeout'] is not a number of seconds"),
        ({"max_attempts": 0}, "['max_attempts'] is not a whole number from 1 to 100"),
        ({"namespace": "a:b"}, "['namespace'] must be a word"),
    ],
)
def test_a_bad_option_is_named(options, reason):
    with pytest.raises(ImproperlyConfigured) as error:
        backend(**options)
    assert reason in str(error.value) and "TASKS['default']['OPTIONS']" in str(error.value)


def check(**environment):
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=TESTS,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    return done.returncode, done.stdout + done.stderr


def test_c43_checks(site):
    code, said = check(NIGHTSHIFT_SERVER=site.url)
    assert code == 0 and "no issues" in said, said
    code, said = check(NIGHTSHIFT_SERVER=f"http://127.0.0.1:{free_port()}")
    assert code == 0 and "nightshift.W001" in said
    assert "set TASKS['default']['OPTIONS']['url']" in said
    code, said = check(NIGHTSHIFT_SERVER="nonsense")
    assert code == 1 and "TASKS['default']['OPTIONS']['url']" in said


@pytest.mark.parametrize(
    ("answer", "check_id", "setting"),
    [
        (b"HTTP/1.1 401 X\r\ncontent-length: 0\r\n\r\n", "nightshift.E002", "['token']"),
        (b"HTTP/1.1 403 X\r\ncontent-length: 0\r\n\r\n", "nightshift.E002", "['token']"),
        (b"HTTP/1.1 404 X\r\ncontent-length: 4\r\n\r\nnope", "nightshift.E003", "['url']"),
    ],
)
def test_c43_checks_tell_a_wrong_token_from_a_wrong_address(answer, check_id, setting):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            client, _ = server.accept()
            with client:
                client.recv(65536)
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        checked = list(backend(url=f"http://127.0.0.1:{server.getsockname()[1]}").check())
        thread.join()
    assert [message.id for message in checked if message.id] == [check_id]
    assert setting in checked[-1].hint


def test_the_checks_of_this_site_find_nothing(site):
    assert [m for m in run_checks() if str(m.id).startswith("nightshift")] == []


def test_a_refusal_says_why(site):
    with pytest.raises(ServiceRefused, match="unique_key") as error:
        tasks.noop.using(unique_key="x" * 256).enqueue()
    assert (error.value.status, error.value.code) == (422, "invalid_field")


def test_c41_task_enqueued_has_the_class_as_sender(site):
    heard = []

    def hear(sender, task_result, **_):
        heard.append((sender, task_result.id))

    task_enqueued.connect(hear, sender=NightshiftBackend)
    try:
        result = tasks.noop.enqueue()
        other = asyncio.run(tasks.noop.aenqueue())
    finally:
        task_enqueued.disconnect(hear, sender=NightshiftBackend)
    assert heard == [(NightshiftBackend, result.id), (NightshiftBackend, other.id)]


def test_c41_started_and_finished_are_sent_once_each(site, run_all, tmp_path):
    ok, bad = tasks.noop.enqueue(), tasks.fail.enqueue()
    run_all(TEST_SIGNALS=str(tmp_path / "signals"))
    heard = [json.loads(line) for line in (tmp_path / "signals").read_text().splitlines()]
    started = [] if not hasattr(tasks, "with_context") else [["task_started", ok.id, "RUNNING"]]
    expected = []
    for result, word in [(ok, "SUCCESSFUL"), (bad, "FAILED")]:
        from django_nightshift.compat import STATUS

        if started:
            expected.append(["task_started", result.id, str(STATUS["RUNNING"])])
        expected.append(["task_finished", result.id, str(STATUS[word])])
    assert heard == expected


def test_importing_tasks_needs_no_service():
    done = subprocess.run(
        [sys.executable, "-c", "import django; django.setup(); import site_app.tasks; print('ok')"],
        cwd=TESTS,
        capture_output=True,
        text=True,
        env={**os.environ, "NIGHTSHIFT_SERVER": "http://127.0.0.1:9"},
    )
    assert done.stdout == "ok\n", done.stderr


class OnlyProblems(BaseHTTPRequestHandler):
    """Says that there is no task, and remembers which connections were used."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.peers.append(self.client_address)
        body = b'{"code": "task_not_found", "detail": "none"}'
        self.send_response(404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_connections_are_kept_but_not_shared_over_a_fork():
    with ThreadingHTTPServer(("127.0.0.1", 0), OnlyProblems) as server:
        server.peers = []
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        own = backend(url=f"http://127.0.0.1:{server.server_port}")

        def ask():
            with pytest.raises(TaskResultDoesNotExist):
                own.get_result("1")

        ask()
        ask()
        pid = os.fork()
        if pid == 0:
            ask()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        ask()
        server.shutdown()
    parent, again, child, later = server.peers
    assert parent == again == later != child


def test_c50_four_processes_enqueue_while_two_workers_run(site, start_worker):
    """No error, each task once."""
    workers = [start_worker() for _ in range(2)]
    code = "from site_app.tasks import noop; [noop.enqueue() for _ in range(100)]"
    script = f"import django; django.setup(); {code}"
    enqueuing = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=TESTS,
            env={**os.environ, "NIGHTSHIFT_SERVER": site.url},
        )
        for _ in range(4)
    ]
    assert [process.wait(60) for process in enqueuing] == [0] * 4

    def ended():
        return len(site.get("/tasks", status="SUCCESSFUL", limit=1000)["items"]) == 400

    until("400 ended tasks", ended, seconds=60)
    items = site.get("/tasks", limit=1000)["items"]
    assert {task["attempts"] for task in items} == {1}
    for worker in workers:
        worker.signal(15)
        assert worker.ends()[0] == 0


def test_options_of_tasks_and_backends(site):
    task = tasks.noop.using(timeout=9, max_attempts=4, backoff={"initial_seconds": 1})
    record = site.task(task.enqueue())
    assert (record["timeout_seconds"], record["max_attempts"]) == (9.0, 4)
    assert record["backoff"]["initial_seconds"] == 1.0
    record = site.task(tasks.noop.enqueue())
    assert (record["timeout_seconds"], record["max_attempts"]) == (86400.0, 1)
    assert record["labels"] == {"django_backend": "default"}
    result = backend(url=site.url, timeout=7, max_attempts=2).enqueue(direct(tasks.noop), [], {})
    record = HTTP.get(f"{site.url}/tasks/{result.id}").json()
    assert (record["timeout_seconds"], record["max_attempts"]) == (7.0, 2)
    with pytest.raises(TypeError):
        tasks.noop.using(no_such_option=1)


def test_the_decorator_takes_the_options_where_the_framework_lets_it(site):
    import django

    if django.VERSION < (6, 1):
        pytest.skip(f"Django {django.__version__} passes no options on; use .using()")
    from django.tasks import task

    task = task(timeout=3, max_attempts=2)(tasks.not_a_task)
    record = site.task(task.enqueue())
    assert (record["timeout_seconds"], record["max_attempts"]) == (3.0, 2)


def test_requests_to_the_service_are_not_logged(site, own_service, caplog):
    """httpx logs each request; those to other servers are left alone."""
    caplog.set_level("INFO")
    tasks.noop.enqueue()
    assert caplog.messages == []
    HTTP.get(f"{own_service.url}/healthz")
    assert len(caplog.messages) == 1


def test_the_token_is_sent(site):
    seen = []

    class Receiver(httpx.BaseTransport):
        def handle_request(self, request):
            seen.append(request.headers["authorization"])
            return httpx.Response(404, json={"code": "task_not_found", "detail": "d"})

    own = backend(url=site.url, token="t0ken")
    own.service._client = httpx.Client(
        transport=Receiver(), **{k: v for k, v in own.service._settings.items() if k != "verify"}
    )
    with pytest.raises(TaskResultDoesNotExist):
        own.get_result("1")
    assert seen == ["Bearer t0ken"]
    assert task_backends["default"].nightshift.token is None
