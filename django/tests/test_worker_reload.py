"""`--reload`: files that only the worker's processes import, as those of most tasks are."""

import os
import signal
import time

import pytest

from conftest import HTTP, SOON, until

POOLS = pytest.mark.parametrize("pool", [(), ("--threads",)], ids=["processes", "threads"])
TASKS = """
from site_app.tasks import task

@task()
def answer():
    {statement}
    return {value}

@task()
def answer_when(path):
    import os, time
    open(path + ".begun", "w").close()
    while not os.path.exists(path):
        time.sleep(0.02)
    return {value}
"""


def write(path, text):
    """Changes the file, also in the eyes of one who has seen it within the same moment."""
    before = path.stat().st_mtime if path.exists() else None
    path.write_text(text)
    if before is not None:
        until("change", lambda: os.utime(path) or path.stat().st_mtime > before)


def enqueue(site, name, *args):
    body = {"task_path": f"changing_tasks.{name}", "args": args, "max_attempts": 1}
    return HTTP.post(f"{site.url}/tasks", json=body).json()["id"]


def value_of(site, task_id):
    task = HTTP.get(f"{site.url}/tasks/{task_id}", params={"wait": SOON}).json()
    assert task["status"] == "SUCCESSFUL", task
    return task["return_value"]


@POOLS
@pytest.mark.parametrize("file", ["changing_tasks.py", "imported_late.py"])
def test_a_file_that_only_a_task_has_imported(site, start_worker, tmp_path, file, pool):
    late = file == "imported_late.py"
    source = {"statement": "import imported_late", "value": "imported_late.value"}
    if not late:
        source = {"statement": "pass", "value": "1"}
    write(tmp_path / "imported_late.py", "value = 1\n")
    write(tmp_path / "changing_tasks.py", TASKS.format(**source))
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    worker = start_worker("--reload", *pool, PYTHONPATH=path)
    assert value_of(site, enqueue(site, "answer")) == 1
    if late:
        write(tmp_path / file, "value = 2 * 1\n")
    else:
        write(tmp_path / file, TASKS.format(**{**source, "value": "2"}))
    assert file in worker.says("changed, reloading")
    worker.says("Starting worker")
    assert value_of(site, enqueue(site, "answer")) == 2
    worker.signal(signal.SIGTERM)
    assert worker.ends()[0] == 0


def test_a_file_that_changes_while_its_first_task_runs(site, start_worker, tmp_path):
    write(tmp_path / "changing_tasks.py", TASKS.format(statement="pass", value="1"))
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    worker = start_worker("--reload", PYTHONPATH=path)
    running = enqueue(site, "answer_when", str(tmp_path / "go"))
    until("begin", (tmp_path / "go.begun").exists)
    write(tmp_path / "changing_tasks.py", TASKS.format(statement="pass", value="2"))
    worker.says("changed, reloading")
    (tmp_path / "go").touch()
    assert value_of(site, running) == 1
    worker.says("Starting worker")
    assert value_of(site, enqueue(site, "answer")) == 2


def test_a_file_from_the_future_is_no_reason_to_reload(site, start_worker, tmp_path):
    write(tmp_path / "changing_tasks.py", TASKS.format(statement="pass", value="1"))
    os.utime(tmp_path / "changing_tasks.py", (time.time() + 86_400,) * 2)
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    worker = start_worker("--reload", PYTHONPATH=path)
    for _ in range(2):
        assert value_of(site, enqueue(site, "answer")) == 1
    os.utime(tmp_path / "changing_tasks.py", (time.time() + 2 * 86_400,) * 2)
    worker.says("changed, reloading")
    worker.says("Starting worker")
    assert value_of(site, enqueue(site, "answer")) == 1
    worker.signal(signal.SIGTERM)
    code, said = worker.ends()
    assert code == 0
    assert said.count("changed, reloading") == 1
