#!/usr/bin/env python3
"""Whether a million other tasks slow the claim of one.

Measures how long it takes from POST /tasks until the executor is called, alone and then beside
1,000,000 tasks that are unrouted, of a paused executor, or due next week. Prints the medians,
their ratio, and the plan of the claim's query. Needs the release build, python3 and sqlite3.
"""

import datetime
import http.server
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from service import CARRIED, RESULT, Service

OTHERS = 1_000_000
PROBES = 300
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CALLED = threading.Event()


class Executor(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        CALLED.set()
        body = json.dumps(RESULT).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def register(service, name, port, **more):
    service.request(
        "PUT",
        f"/executors/{name}",
        {
            "kind": "http",
            "task_paths": [name],
            "secret": SECRET,
            "url": f"http://127.0.0.1:{port}/",
            **more,
        },
    )


def probe(service, count):
    times = []
    for _ in range(count):
        CALLED.clear()
        start = time.perf_counter()
        service.request("POST", "/tasks", {"task_path": "probe", **CARRIED})
        assert CALLED.wait(10)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def fill(service):
    next_week = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=7)
    kinds = [
        {"task_path": "unrouted"},
        {"task_path": "paused", "priority": 100},
        {"task_path": "probe", "priority": 100, "run_after": next_week.isoformat()},
    ]
    kinds = [{**kind, **CARRIED} for kind in kinds]
    start = time.perf_counter()
    service.enqueue([kinds[number % 3] for number in range(OTHERS)])
    return time.perf_counter() - start


# The first row, as a claim looks for it.
PLAN = """EXPLAIN QUERY PLAN SELECT priority, due_at, seq FROM tasks WHERE stage = 1
          AND executor_id = 1 AND priority BETWEEN -100 AND 100
          ORDER BY priority DESC, due_at, seq LIMIT 1"""

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Executor)
threading.Thread(target=server.serve_forever, daemon=True).start()
with tempfile.TemporaryDirectory() as folder:
    database = f"{folder}/bench.db"
    with Service(f"sqlite://{database}") as service:
        register(service, "probe", server.server_port)
        register(service, "paused", server.server_port, paused=True)
        probe(service, 50)
        alone = probe(service, PROBES)
        print(f"alone: {alone:.2f} ms")
        seconds = fill(service)
        print(f"{OTHERS} others enqueued in {seconds:.1f} s ({OTHERS / seconds:.0f}/s)")
        beside = probe(service, PROBES)
        print(f"beside them: {beside:.2f} ms, ratio {beside / alone:.2f}")
        print(
            subprocess.run(
                ["sqlite3", database, PLAN], capture_output=True, text=True, check=True
            ).stdout
        )
sys.exit(beside / alone >= 2)
