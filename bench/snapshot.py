#!/usr/bin/env python3
"""Whether a transaction that somebody leaves open on PostgreSQL slows claims.

Enqueues RATE tasks a second one after another, has a worker lease and finish them, and looks at how
long each has waited for its start: first alone, then while a session holds a snapshot, for SECONDS
in all. Prints the 95th percentile of each tenth, with what is dead by then, and the ratio of the
last tenth to the time before. Fails where that is 2 or more. Needs the release build, python3 and
psql; started by `make bench-snapshot`, which also starts PostgreSQL.
"""

import datetime
import os
import statistics
import subprocess
import sys
import threading
import time

from service import CARRIED, RESULT, Service

URL = os.environ["TEST_POSTGRES_URL"]
SECONDS = float(os.environ.get("SECONDS_HELD", 180))
ALONE = min(30.0, SECONDS)
RATE = int(os.environ.get("RATE", 500))
# So many are enqueued by one request.
TOGETHER = 10


def psql(text):
    return subprocess.run(
        ["psql", "-XAtq", URL, "-c", text], capture_output=True, text=True, check=True
    ).stdout.strip()


class Load:
    """Enqueues and works until it is stopped; `waits` has what was seen since it was last taken."""

    def __init__(self, service):
        self.service, self.waits, self.stopped = service, [], False
        self.threads = [threading.Thread(target=work) for work in (self.enqueue, self.work)]
        for thread in self.threads:
            thread.start()

    def enqueue(self):
        due = time.monotonic()
        while not self.stopped:
            self.service.request(
                "POST", "/tasks/batch", {"tasks": [{"task_path": "bench", **CARRIED}] * TOGETHER}
            )
            due += TOGETHER / RATE
            time.sleep(max(0, due - time.monotonic()))

    def work(self):
        ask = {"worker_id": "bench", "max_tasks": 100, "wait_seconds": 1}
        while not self.stopped:
            leases = self.service.request("POST", "/executors/bench/leases", ask)["leases"]
            if leases:
                ends = [{"token": lease["token"], "return_value": RESULT} for lease in leases]
                self.service.request("POST", "/leases/finish", {"results": ends})
                self.waits += [waited(lease["task"]) for lease in leases]

    def p95(self, seconds):
        self.waits = []
        time.sleep(seconds)
        return statistics.quantiles(self.waits, n=20)[-1] * 1000

    def stop(self):
        self.stopped = True
        for thread in self.threads:
            thread.join()


def waited(task):
    start, end = (
        datetime.datetime.fromisoformat(task[name]) for name in ("enqueued_at", "started_at")
    )
    return (end - start).total_seconds()


with Service(URL) as service:
    # A limit, so that what runs is counted as well.
    service.request(
        "PUT", "/executors/bench", {"kind": "worker", "task_paths": ["*"], "concurrency": 1000}
    )
    load = Load(service)
    try:
        load.p95(5)
        alone = load.p95(ALONE)
        print(f"alone: wait p95 {alone:.1f} ms", flush=True)
        holder = subprocess.Popen(
            ["psql", "-XAtq", URL], stdin=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL
        )
        holder.stdin.write("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM tasks LIMIT 1;\n")
        holder.stdin.flush()
        for tenth in range(1, 11):
            held = load.p95(SECONDS / 10)
            dead = psql("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'tasks'")
            print(
                f"snapshot held for {tenth * SECONDS / 10:.0f} s, {dead} dead rows: wait p95 "
                f"{held:.1f} ms",
                flush=True,
            )
        holder.stdin.close()
        holder.wait(10)
    finally:
        load.stop()
print(f"ratio {held / alone:.2f}")
sys.exit(held / alone >= 2)
