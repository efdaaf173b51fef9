#!/usr/bin/env python3
"""How long `nightshift copy` takes for 100,000 tasks of every state, from SQLite to PostgreSQL and
back, and how much memory. Every task has args of its own, a third has labels, logs or errors.

Needs TEST_POSTGRES_URL (`scripts/postgres.sh bench/copying.py`) and python3; NIGHTSHIFT names
the binary.
"""
import datetime, json, os, pathlib, signal, socket, subprocess, sys, tempfile, time
import urllib.request

TASKS = 100_000
BATCH = 10_000
# Each is a request of its own.
CANCELLED = 500
ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = os.environ.get("NIGHTSHIFT", ROOT / "target/release/nightshift")
POSTGRES = os.environ["TEST_POSTGRES_URL"]
WORKED = {"good": {"return_value": {"flux": 1e-7}}, "bad": {"error": {"message": "no such image"}}}


def request(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    call = urllib.request.Request(SERVER + path, data, {"Content-Type": "application/json"},
                                  method=method)
    with urllib.request.urlopen(call) as answer:
        return json.load(answer)


def enqueue(kind, count, **more):
    ids = []
    for start in range(0, count, BATCH):
        tasks = [{"task_path": kind, "args": [f"{kind}-{n}.fits", n, 1e-7], "max_attempts": 1,
                  "labels": {"kind": kind}, **more} for n in range(start, min(start + BATCH, count))]
        ids += request("POST", "/tasks/batch", {"tasks": tasks})["ids"]
    return ids


def lease(kind, count):
    ask = {"worker_id": "bench", "max_tasks": min(count, 1_000)}
    return request("POST", f"/executors/{kind}/leases", ask)["leases"]


def fill():
    for kind in ["good", "bad", "runs"]:
        request("PUT", f"/executors/{kind}", {"kind": "worker", "task_paths": [kind],
                                              "lease_seconds": 3600})
    in_a_week = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=7)
    enqueue("waits", TASKS // 4 - CANCELLED)
    enqueue("later", TASKS // 10, run_after=in_a_week.isoformat())
    enqueue("runs", TASKS // 20, timeout_seconds=3600)
    for _ in range(TASKS // 20 // 1_000):
        lease("runs", 1_000)
    for kind, share in [("good", 30), ("bad", 30)]:
        enqueue(kind, TASKS * share // 100)
        while leases := lease(kind, 1_000):
            ends = [{"token": each["token"], **WORKED[kind]} for each in leases]
            request("POST", "/leases/finish", {"results": ends})
    for each in enqueue("off", CANCELLED):
        request("POST", f"/tasks/{each}/cancel")


def copy(source, target):
    start = time.perf_counter()
    child = subprocess.Popen([BINARY, "--json", "copy", "--from", source, "--to", target],
                             stdout=subprocess.PIPE, text=True)
    summary = json.load(child.stdout)
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0
    seconds = time.perf_counter() - start
    rows = sum(table["rows"] for table in summary["tables"])
    print(f"{source.split(':')[0]} -> {target.split(':')[0]}: {seconds:.1f} s, {rows} rows, "
          f"{usage.ru_maxrss // 1024} MiB at most; {summary['tasks']}", flush=True)
    assert sum(summary["tasks"].values()) == TASKS
    return summary["tables"]


with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
SERVER = f"http://{address}"
with tempfile.TemporaryDirectory() as folder:
    file = f"sqlite://{folder}/bench.db"
    service = subprocess.Popen([BINARY, "serve", "--bind", address, "--database-url", file],
                               stderr=subprocess.PIPE, text=True)
    while "ready" not in service.stderr.readline():
        pass
    fill()
    service.send_signal(signal.SIGTERM)
    service.communicate(timeout=60)
    there = copy(file, POSTGRES)
    sys.exit(copy(POSTGRES, f"sqlite://{folder}/back.db") != there)
