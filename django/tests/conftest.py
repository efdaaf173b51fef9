"""A Nightshift service for each engine, and Django set up to use it."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import httpx
import pytest

TESTS = Path(__file__).parent
SOON = 30
BINARY = os.environ.get("NIGHTSHIFT", str(TESTS.parent.parent / "target/debug/nightshift"))
ENGINES = ["sqlite", "postgres"]
HTTP = httpx.Client(trust_env=False, timeout=30)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(what, check, seconds=SOON):
    """The first true value of `check`."""
    end = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < end, f"no {what} in {seconds} s"
        time.sleep(0.02)
    return value


class Service:
    """`nightshift serve`, which a test may stop and start again."""

    def __init__(self, database_url, folder):
        self.database_url = database_url
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self, **environment):
        log = open(self.folder / "service.log", "ab")
        self.process = subprocess.Popen(
            [
                BINARY,
                "serve",
                "--bind",
                f"127.0.0.1:{self.port}",
                "--database-url",
                self.database_url,
                "--shutdown-grace-seconds",
                "1",
            ],
            stdout=log,
            stderr=log,
            cwd=self.folder,
            env={**os.environ, **environment},
        )
        until("service", self.is_ready)
        return self

    def is_ready(self):
        assert self.process.poll() is None, (self.folder / "service.log").read_text()
        try:
            return HTTP.get(f"{self.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(SOON)

    def kill(self):
        self.process.kill()
        self.process.wait(SOON)

    def get(self, path, **params):
        answer = HTTP.get(self.url + path, params=params)
        answer.raise_for_status()
        return answer.json()

    def put(self, path, body):
        HTTP.put(self.url + path, json=body).raise_for_status()

    def task(self, result):
        return self.get(f"/tasks/{result.id}")


def database_of(engine, folder):
    if engine == "sqlite":
        return f"sqlite://{folder / 'service.db'}", lambda: None
    admin = os.environ.get("TEST_POSTGRES_URL")
    assert admin, "TEST_POSTGRES_URL is not set: run `make test-django`"
    name = f"django_{uuid4().hex}"

    def psql(statement):
        subprocess.run(
            ["psql", "-q", admin, "-c", statement], check=True, stdout=subprocess.DEVNULL
        )

    psql(f"CREATE DATABASE {name}")
    url = urlunsplit(urlsplit(admin)._replace(path=f"/{name}"))
    return url, lambda: psql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=ENGINES, scope="session")
def engine_service(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    url, drop = database_of(request.param, folder)
    service = Service(url, folder).start()
    yield service
    service.stop()
    drop()


@pytest.fixture
def service(engine_service):
    """The session's service, with nothing in it."""
    yield engine_service
    url = engine_service.url
    for status in ("RUNNING", "READY"):
        for task in engine_service.get("/tasks", status=status, limit=1000)["items"]:
            HTTP.post(f"{url}/tasks/{task['id']}/cancel")
    until("end of all tasks", lambda: not engine_service.get("/tasks", status="RUNNING")["items"])
    HTTP.post(f"{url}/prune", json={"retention_seconds": 0, "retention_failed_seconds": 0})
    for executor in engine_service.get("/executors")["items"]:
        HTTP.delete(f"{url}/executors/{executor['name']}")


@pytest.fixture
def own_service(tmp_path):
    """A service that the test may stop."""
    service = Service(f"sqlite://{tmp_path / 'own.db'}", tmp_path).start()
    yield service
    service.stop()


def point_to(url):
    """Makes the settings name another service."""
    from django.core.signals import setting_changed

    os.environ["NIGHTSHIFT_SERVER"] = url
    setting_changed.send(sender=None, setting="TASKS", value=None, enter=True)


def direct(task):
    """The task, not waiting for a commit where the framework would."""
    from dataclasses import fields, replace

    waits = any(field.name == "enqueue_on_commit" for field in fields(task))
    return replace(task, enqueue_on_commit=False) if waits else task


@pytest.fixture
def site(service):
    """This process as a site that uses the service."""
    point_to(service.url)
    return service


class Worker:
    """`manage.py nightshift_worker` in a process of its own."""

    def __init__(self, url, *arguments, verbosity=3, **environment):
        self.process = subprocess.Popen(
            [
                sys.executable,
                "manage.py",
                "nightshift_worker",
                "--no-startup-delay",
                f"-v{verbosity}",
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=TESTS,
            start_new_session=True,
            env={**os.environ, "NIGHTSHIFT_SERVER": url, "PYTHONUNBUFFERED": "1", **environment},
        )
        self.lines = []
        self.read = 0
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def says(self, pattern):
        """Reads on until a line matches."""

        def next_match():
            while self.read < len(self.lines):
                line = self.lines[self.read]
                self.read += 1
                if re.search(pattern, line):
                    return line
            return None

        return until(f"{pattern!r} in {self.lines}", next_match)

    def signal(self, number):
        self.process.send_signal(number)

    def ends(self, seconds=SOON):
        """The exit status, and all that it said."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("the worker goes on:\n" + "\n".join(self.lines)) from None
        self.reader.join(SOON)
        return self.process.returncode, "\n".join(self.lines)


@pytest.fixture
def start_worker(site):
    workers = []

    def start(*arguments, url=None, **more):
        workers.append(Worker(url or site.url, *arguments, **more))
        return workers[-1]

    yield start
    # Shown where the test failed.
    for task in site.get("/tasks")["items"]:
        print(HTTP.get(f"{site.url}/tasks/{task['id']}").text)
    for worker in workers:
        print("\n".join(["the worker:", *worker.lines]))
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait(SOON)
        worker.reader.join(SOON)
        worker.process.stdout.close()


@pytest.fixture
def run_all(start_worker):
    """Runs what is ready, and answers what the worker said."""

    def run(*arguments, **more):
        code, text = start_worker("--batch", *arguments, **more).ends()
        assert code == 0, text
        return text

    return run


def pytest_configure():
    sys.path.insert(0, str(TESTS))
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    import django
    from django.test.utils import setup_test_environment

    django.setup()
    setup_test_environment()


@pytest.fixture(scope="session")
def database():
    """The site's own database."""
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


@pytest.fixture
def admin(site, database):
    """A browser in which a superuser has signed in."""
    from django.contrib.auth.models import User
    from django.test import Client

    User.objects.filter(username="admin").delete()
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    return client
