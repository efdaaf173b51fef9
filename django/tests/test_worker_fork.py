"""Tasks that start processes of their own, and workers whose processes end or hang."""

import json
import multiprocessing
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from django_nightshift.compat import STATUS

from conftest import SOON, until
from site_app import forks, tasks

FAILED, SUCCESSFUL = STATUS["FAILED"], STATUS["SUCCESSFUL"]
POOLS = pytest.mark.parametrize("pool", [(), ("--threads",)], ids=["processes", "threads"])


@pytest.fixture
def marker(tmp_path):
    """A file with a line for each process that a test is to know."""
    path = str(tmp_path / "marker")
    yield path
    for pid in lines(path):
        if is_alive(pid):
            os.kill(int(pid), signal.SIGKILL)


def lines(marker):
    return open(marker).read().splitlines() if os.path.exists(marker) else []


def is_alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def begun(marker):
    return until("begin of the task", lambda: lines(marker))


def test_a_killed_task_has_ended_while_a_process_that_it_forked_lives(site, start_worker, marker):
    result = forks.fork_and_die.enqueue(marker)
    next_one = tasks.noop.enqueue()
    worker = start_worker()
    assert result.wait(SOON)
    assert result.status == FAILED
    error = site.task(result)["errors"][0]
    assert error["exception_class_path"] == "django_nightshift.exceptions.WorkerLost"
    assert "signal 9" in error["message"]
    assert next_one.wait(SOON)
    worker.signal(signal.SIGTERM)
    assert worker.ends()[0] == 0


def test_cancelling_a_killed_task_leaves_the_worker_running(site, start_worker, marker):
    from django_nightshift.exceptions import TaskAlreadyFinished

    result = forks.fork_and_die.using(max_attempts=2).enqueue(marker)
    worker = start_worker()
    begun(marker)
    try:
        result.cancel()
    except TaskAlreadyFinished:
        assert site.task(result)["errors"][0]["kind"] == "exception"
    assert result.wait(SOON)
    assert tasks.noop.enqueue().wait(SOON)
    worker.signal(signal.SIGTERM)
    assert worker.ends()[0] == 0


@POOLS
@pytest.mark.parametrize("how", ["return", "exit", "raise"])
def test_a_process_that_leaves_the_task_is_no_second_worker(
    site, start_worker, marker, tmp_path, how, pool
):
    result = forks.fork_and_return.enqueue(marker, how)
    second = tmp_path / "second"
    next_one = forks.wait_for.enqueue(str(second))
    worker = start_worker(*pool)
    assert result.wait(SOON)
    assert result.return_value is True
    until("begin of the next one", lambda: site.task(next_one)["status"] == "RUNNING")
    (tmp_path / "marker.go").touch()
    until("end of the other process", lambda: lines(marker) and not is_alive(lines(marker)[0]))
    worker.says("a line of the other process")
    if how == "raise":
        worker.says("^ValueError: in the other process")
    second.touch()
    assert next_one.wait(SOON)
    assert next_one.return_value == "waited"
    assert [line.message for line in next_one.logs] == []
    worker.signal(signal.SIGTERM)
    code, said = worker.ends()
    assert code == 0
    assert said.count(f"Task id={result.id} path=site_app.forks.fork_and_return state=") == 2


def test_what_a_killed_task_has_started_is_killed_too(site, start_worker, marker):
    result = forks.start_a_program_and_mind_nothing.enqueue(marker)
    start_worker()
    (program,) = begun(marker)
    result.cancel()
    assert result.wait(SOON)
    until("end of the program", lambda: not is_alive(program))


def test_what_the_tasks_of_a_killed_worker_have_started_is_killed_too(site, start_worker, marker):
    forks.start_a_program_and_mind_nothing.enqueue(marker)
    worker = start_worker()
    (program,) = begun(marker)
    worker.signal(signal.SIGKILL)
    assert worker.ends()[0] == -signal.SIGKILL
    until("end of the program", lambda: not is_alive(program))


@POOLS
def test_a_pool_of_processes(site, start_worker, pool):
    result = forks.pool.enqueue(5)
    worker = start_worker(*pool)
    assert result.wait(SOON)
    assert result.status == SUCCESSFUL, site.task(result)
    assert result.return_value == [0, 2, 4, 6, 8]
    # The pool's processes have been ended by a signal, which was not the worker's.
    next_one = tasks.noop.enqueue()
    assert next_one.wait(SOON)
    worker.signal(signal.SIGTERM)
    code, said = worker.ends()
    assert code == 0
    assert said.count("shutting down") == 1


@POOLS
def test_a_pool_that_is_stopped(site, start_worker, marker, pool):
    result = forks.pool_that_is_stopped.enqueue(marker)
    start_worker(*pool)
    assert result.wait(SOON)
    assert result.return_value is False


@POOLS
def test_a_process_that_is_stopped_as_it_begins(site, start_worker, pool):
    result = forks.stop_at_once.enqueue(200)
    worker = start_worker(*pool)
    assert result.wait(2 * SOON)
    assert result.return_value is True
    worker.signal(signal.SIGTERM)
    code, said = worker.ends()
    assert code == 0
    assert said.count("shutting down") == 1


@pytest.mark.parametrize("method", [None, "spawn"])
def test_the_start_method_is_the_one_of_the_site(site, run_all, tmp_path, method):
    result = forks.start_method.enqueue()
    (tmp_path / "setup.py").write_text(
        "import multiprocessing\n"
        "if multiprocessing.parent_process() is None:\n"
        f"    multiprocessing.set_start_method({method!r}, force=True)\n"
    )
    run_all(
        PYTHONPATH=f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}",
        **({"TEST_IMPORT": "setup"} if method else {}),
    )
    result.refresh()
    assert result.return_value == (method or multiprocessing.get_start_method())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_is_one_to_the_worker(site, start_worker, marker, number):
    """As systemd sends it, whatever the task before has done with it."""
    before = forks.own_signals.enqueue(marker)
    result = tasks.mark_and_sleep.enqueue(marker, 2)
    worker = start_worker()
    until("begin of both", lambda: len(lines(marker)) == 2)
    for pid in reversed(family(worker.process.pid)):
        os.kill(pid, number)
    code, said = worker.ends()
    assert code == 0, said
    before.refresh()
    result.refresh()
    assert (before.status, result.status) == (SUCCESSFUL, SUCCESSFUL)


def family(pid):
    """A process and those that come from it."""
    children = []
    for task in os.listdir(f"/proc/{pid}/task"):
        children += open(f"/proc/{pid}/task/{task}/children").read().split()
    return [pid, *(member for child in children for member in family(int(child)))]


@pytest.mark.parametrize("where", ["preload", "process"])
def test_a_signal_ends_a_worker_whose_processes_do_not_start(site, start_worker, tmp_path, where):
    begun = tmp_path / "begun"
    in_process = "multiprocessing.parent_process() is not None"
    (tmp_path / "hanging.py").write_text(
        "import multiprocessing, sys, time\n"
        f"if {in_process}:\n"
        f"    open({str(begun)!r}, 'w').close()\n"
        "    time.sleep(400)\n"
        "if sys.argv[0] == '-c':\n"
        + (
            f"    open({str(begun)!r}, 'w').close()\n    time.sleep(400)\n"
            if where == "preload"
            else "    raise RuntimeError('not here')\n"
        )
    )
    worker = start_worker(
        PYTHONPATH=f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}", TEST_IMPORT="hanging"
    )
    until("begin", begun.exists)
    processes = family(worker.process.pid)
    worker.signal(signal.SIGTERM)
    code, said = worker.ends()
    assert code == 0, said
    for pid in processes:
        until("end of the process", lambda pid=pid: not is_alive(pid))


@pytest.fixture
def serve():
    """A server that gives the same answers to everybody."""
    servers = []

    def start(answers):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.rfile.read(int(self.headers.get("content-length", 0)))
                body = answers[self.command, self.path].encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


EXECUTOR = json.dumps({"kind": "worker", "lease_seconds": 30})


@POOLS
@pytest.mark.parametrize(
    "answer",
    ["<p>Please sign in", "{}", '{"leases": [{"token": "t"}]}'],
    ids=["page", "empty", "lease"],
)
def test_a_worker_whose_loop_ends_ends(site, start_worker, serve, answer, pool):
    """A network may send a page of its own for everything."""
    url = serve(
        {
            ("GET", "/executors/django"): EXECUTOR,
            ("POST", "/executors/django/leases"): answer,
        }
    )
    code, said = start_worker(*pool, url=url).ends()
    assert code == 1, said


def test_an_attempt_that_is_not_looked_after_is_not_run_on(site, start_worker, serve, marker):
    task = site.task(tasks.mark_and_sleep.enqueue(marker, 400))
    lease = {"token": "t", "max_attempts": 1, "task": task}
    url = serve(
        {
            ("GET", "/executors/django"): EXECUTOR,
            ("POST", "/executors/django/leases"): json.dumps({"leases": [lease]}),
            # An answer that says nothing of a cancel is not the service's.
            ("POST", "/leases/t/renew"): "{}",
        }
    )
    worker = start_worker(url=url)
    (pid,) = begun(marker)
    code, said = worker.ends()
    assert code == 1, said
    until("end of the process", lambda: not is_alive(pid))
