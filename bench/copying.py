#!/usr/bin/env python3
"""How long `nightshift copy` takes for 100,000 tasks of every state, from SQLite to PostgreSQL and
back, and how much memory. Every task has args of its own, a third has labels, logs or errors.

Needs TEST_POSTGRES_URL (`scripts/postgres.sh bench/copying.py`) and python3; NIGHTSHIFT names
the binary.
"""

import datetime
import json
import os
import subprocess
import sys
import tempfile
import time

from service import NIGHTSHIFT, Service

TASKS = 100_000
# Each is a request of its own.
CANCELLED = 500
POSTGRES = os.environ["TEST_POSTGRES_URL"]
WORKED = {"good": {"return_value": {"flux": 1e-7}}, "bad": {"error": {"message": "no such image"}}}


def tasks(kind, count, **more):
    return [
        {
            "task_path": kind,
            "args": [f"{kind}-{n}.fits", n, 1e-7],
            "max_attempts": 1,
            "labels": {"kind": kind},
            **more,
        }
        for n in range(count)
    ]


def fill(service):
    for kind in ["good", "bad", "runs"]:
        service.request(
            "PUT",
            f"/executors/{kind}",
            {"kind": "worker", "task_paths": [kind], "lease_seconds": 3600},
        )
    in_a_week = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=7)
    service.enqueue(tasks("waits", TASKS // 4 - CANCELLED))
    service.enqueue(tasks("later", TASKS // 10, run_after=in_a_week.isoformat()))
    service.enqueue(tasks("runs", TASKS // 20, timeout_seconds=3600))
    while service.lease("runs"):
        pass
    for kind, share in [("good", 30), ("bad", 30)]:
        service.enqueue(tasks(kind, TASKS * share // 100))
        service.work(kind, WORKED[kind])
    for each in service.enqueue(tasks("off", CANCELLED)):
        service.request("POST", f"/tasks/{each}/cancel")


def copy(source, target):
    start = time.perf_counter()
    child = subprocess.Popen(
        [NIGHTSHIFT, "--json", "copy", "--from", source, "--to", target],
        stdout=subprocess.PIPE,
        text=True,
    )
    summary = json.load(child.stdout)
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0
    seconds = time.perf_counter() - start
    rows = sum(table["rows"] for table in summary["tables"])
    print(
        f"{source.split(':')[0]} -> {target.split(':')[0]}: {seconds:.1f} s, {rows} rows, "
        f"{usage.ru_maxrss // 1024} MiB at most; {summary['tasks']}",
        flush=True,
    )
    assert sum(summary["tasks"].values()) == TASKS
    return summary["tables"]


with tempfile.TemporaryDirectory() as folder:
    file = f"sqlite://{folder}/bench.db"
    with Service(file) as filled:
        fill(filled)
    there = copy(file, POSTGRES)
    sys.exit(copy(POSTGRES, f"sqlite://{folder}/back.db") != there)
