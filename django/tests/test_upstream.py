"""Other people's tests, run with this backend and worker in the place of theirs.

Their sources are fetched by `make test-django`, and changed in a copy: the backend's path, and the
worker's name.
"""

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import django
import pytest
from django_nightshift.compat import FRAMEWORK, TaskError

from conftest import TESTS

SOURCES = os.environ.get("UPSTREAM_SOURCES")
#: These two ask for DummyBackend itself.
OF_DUMMY_BACKEND = {"test_get_backend", "test_using_correct_backend"}
PROCESS_TESTS_HEAD = """
import os, signal, subprocess, sys, time
from unittest import skipIf
from django.test import TransactionTestCase
from django.utils.crypto import get_random_string
from django_nightshift.compat import STATUS
import process_tasks as test_tasks


class TaskResultStatus:
    READY, RUNNING = STATUS["READY"], STATUS["RUNNING"]
    FAILED, SUCCESSFUL = STATUS["FAILED"], STATUS["SUCCESSFUL"]


def stored(result):
    return result.task.get_backend().get_result(result.id)


"""


def source(name, member, folder):
    """A file or folder of a source distribution, in the folder."""
    assert SOURCES, "UPSTREAM_SOURCES is not set: run `make test-django`"
    (archive,) = Path(SOURCES).glob(f"{name}.tar.gz")
    with tarfile.open(archive) as tar:
        wanted = [m for m in tar.getmembers() if m.name.startswith(f"{name}/{member}")]
        tar.extractall(folder, members=wanted, filter="data")
    return folder / name / member


def run(site, folder, *labels):
    """The tests that ran, and the names of those that did not pass."""
    path = os.pathsep.join([str(folder), str(TESTS / "upstream"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "django", "test", "--settings", "settings", "-v2", *labels],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={
            **os.environ,
            "NIGHTSHIFT_SERVER": site.url,
            "PYTHONPATH": path,
            "DJANGO_SETTINGS_MODULE": "settings",
        },
    )
    count = re.search(r"^Ran (\d+) tests?", done.stderr, re.MULTILINE)
    assert count, done.stderr
    failed = set(re.findall(r"^(?:FAIL|ERROR): (\w+)", done.stderr, re.MULTILINE))
    return int(count[1]), failed, done.stderr


@pytest.mark.skipif(FRAMEWORK != "django.tasks", reason="Django has tasks from 6.0 on")
def test_the_tests_of_django(site, tmp_path):
    tests = source(f"django-{django.__version__}", "tests/tasks", tmp_path)
    tests.rename(tmp_path / "tasks")
    file = tmp_path / "tasks/test_tasks.py"
    text = file.read_text()
    assert "django.tasks.backends.dummy.DummyBackend" in text
    file.write_text(text.replace("django.tasks.backends.dummy.DummyBackend", "backend.Backend"))
    count, failed, said = run(site, tmp_path, "tasks.test_tasks", "tasks.test_custom_backend")
    assert failed == OF_DUMMY_BACKEND, said
    assert count >= 48


@pytest.mark.skipif(TaskError is None, reason="they ask for the list of errors")
def test_the_process_tests_of_django_tasks_db(site, tmp_path):
    """Signals, kill -9, several workers."""
    text = source("django_tasks_db-0.13.0", "tests/tests.py", tmp_path).read_text()
    start, end = (
        text.index(f"class {name}")
        for name in (
            "DatabaseWorkerProcessTestCase",
            "CompatTestCase",
        )
    )
    text = (
        text[start:end]
        .replace('"db_worker"', '"nightshift_worker"')
        .replace("DBTaskResult.objects.get(id=result.id)", "stored(result)")
        .replace("tests.db_worker_test_settings", "settings")
        # A busy machine needs longer to start Python, and hang() is waited for.
        .replace("WORKER_STARTUP_TIME = 1", "WORKER_STARTUP_TIME = 3")
        .replace("sleep_for.enqueue(2)", "sleep_for.enqueue(5)")
        .replace("process.wait(timeout=0.5)", "process.wait(timeout=20)")
        .replace("process.wait(timeout=2)", "process.wait(timeout=20)")
    )
    (tmp_path / "test_processes.py").write_text(PROCESS_TESTS_HEAD + text)
    (tmp_path / "manage.py").write_text((TESTS / "manage.py").read_text())
    count, failed, said = run(site, tmp_path, "test_processes")
    assert (count, failed) == (8, set()), said
