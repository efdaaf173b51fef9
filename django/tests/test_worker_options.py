"""Options of `nightshift_worker` that `db_worker` does not have, and whose tasks it takes."""

import os
import signal
import socket

import pytest
from django.core.checks import run_checks
from django_nightshift.compat import STATUS, TaskContext

from conftest import SOON, free_port, point_to, until
from site_app import tasks

SUCCESSFUL = STATUS["SUCCESSFUL"]


@pytest.mark.parametrize("concurrency", ["1", "2"])
def test_a_process_ends_after_so_many_tasks(site, run_all, tmp_path, concurrency):
    marker = str(tmp_path / "marker")
    results = [tasks.mark.enqueue(marker) for _ in range(5)]
    run_all("--max-tasks-per-process", "2", "--concurrency", concurrency)
    for result in results:
        result.refresh()
        assert result.status == SUCCESSFUL
    pids = open(marker).read().split()
    assert len(pids) == 5
    assert all(pids.count(pid) <= 2 for pid in pids)


def test_a_process_that_has_done_its_share_ends_before_the_next_task_comes(
    site, start_worker, tmp_path
):
    marker = str(tmp_path / "marker")
    worker = start_worker("--max-tasks-per-process", "1")
    assert tasks.mark.enqueue(marker).wait(SOON)
    (pid,) = open(marker).read().split()
    until("end of the process", lambda: not os.path.exists(f"/proc/{pid}"))
    assert tasks.noop.enqueue().wait(SOON)
    worker.signal(signal.SIGTERM)
    assert worker.ends()[0] == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--max-tasks-per-process", "0"], "Must be greater than zero"),
        (["--max-tasks-per-process", "1", "--threads"], "not for --threads"),
        (["--health-file", "/no/such/folder/file"], "--health-file cannot be written"),
    ],
)
def test_bad_arguments(start_worker, arguments, reason):
    code, said = start_worker(*arguments).ends()
    assert code != 0 and reason in said and "Traceback" not in said


def test_the_health_file_is_touched_while_the_worker_lives(own_service, start_worker, tmp_path):
    path = tmp_path / "health"
    worker = start_worker("--health-file", str(path), url=own_service.url)
    until("file", path.exists)
    os.utime(path, (0, 0))
    until("touch", lambda: path.stat().st_mtime > 0)
    # It says nothing of the service.
    own_service.stop()
    worker.says("asking on")
    os.utime(path, (0, 0))
    until("touch", lambda: path.stat().st_mtime > 0)
    worker.signal(signal.SIGTERM)
    assert worker.ends()[0] == 0
    assert not path.exists()


@pytest.mark.parametrize("kind", ["file", "abstract"])
def test_systemd_is_told(site, start_worker, tmp_path, kind):
    address = str(tmp_path / "notify") if kind == "file" else f"\0nightshift-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(SOON)
        worker = start_worker(NOTIFY_SOCKET=address.replace("\0", "@"), WATCHDOG_USEC="600000")
        assert systemd.recv(100) == b"READY=1"
        assert [systemd.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        worker.signal(signal.SIGTERM)
        assert worker.ends()[0] == 0


def test_tasks_of_another_alias_with_the_same_executor_are_named(site, run_all):
    result = tasks.noop.using(backend="unchecked").enqueue()
    assert "Tasks of the aliases 'unchecked' of TASKS are run, too" in run_all()
    result.refresh()
    assert result.status == SUCCESSFUL
    assert "are run, too" not in run_all("--backend", "saguaro")


@pytest.mark.skipif(TaskContext is None, reason="django-tasks before 0.8 has no context")
@pytest.mark.parametrize("pool", [(), ("--threads",)], ids=["processes", "threads"])
def test_a_task_runs_under_the_alias_that_it_was_enqueued_with(site, run_all, pool):
    from site_app.aliases import alias

    results = [alias.using(backend=name).enqueue() for name in ("default", "unchecked")]
    run_all(*pool)
    for result in results:
        result.refresh()
    assert [result.return_value for result in results] == ["default", "unchecked"]


def test_a_service_that_is_away_is_warned_of_once(site):
    url = f"http://127.0.0.1:{free_port()}"
    point_to(url)
    warnings = [message for message in run_checks() if message.id == "nightshift.W001"]
    assert len(warnings) == 1
    assert f"Nightshift at {url} cannot be reached" in warnings[0].msg


def test_a_worker_that_is_refused_a_connection_does_not_speak_of_an_answer(site, start_worker):
    worker = start_worker(url=f"http://127.0.0.1:{free_port()}")
    line = worker.says("asking on")
    assert "cannot be reached" in line and "did not answer" not in line
