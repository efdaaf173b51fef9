#!/usr/bin/env python3
"""A worker for Nightshift in Python's standard library. Usage: worker.py EXECUTOR [SERVER]

A task is called with an event, which is set when it is to stop, and its arguments.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, wait
from urllib.request import Request, urlopen

EXECUTOR, SERVER = (sys.argv[1:] + ["http://127.0.0.1:8700"])[:2]
SLOTS = 4  # tasks at once
HEADERS = {"Content-Type": "application/json"}
if os.environ.get("NIGHTSHIFT_TOKEN"):
    HEADERS["Authorization"] = "Bearer " + os.environ["NIGHTSHIFT_TOKEN"]
POOL, STOPPING = ThreadPoolExecutor(SLOTS), threading.Event()


def fail(message):
    raise ValueError(message)


TASKS = {
    "check.echo": lambda stop, *args, **kwargs: [args, kwargs],
    "check.fail": lambda stop, message: fail(message),
    "check.slow": lambda stop, seconds: stop.wait(seconds) or seconds,
}


def post(path, body, timeout=10):
    request = Request(SERVER + path, json.dumps(body).encode(), HEADERS)
    with urlopen(request, timeout=timeout) as answer:
        return json.loads(answer.read() or b"null")


def run(task, stop):
    try:
        function = TASKS.get(task["task_path"], lambda *_, **__: fail("there is no such task"))
        return {"return_value": function(stop, *task["args"], **task["kwargs"])}
    except Exception as error:
        return {
            "error": {
                "exception_class_path": f"builtins.{type(error).__name__}",
                "message": str(error),
                "traceback": traceback.format_exc(),
            }
        }


def report(lease, stop, what, body):
    """Whether the attempt goes on or has been recorded."""
    try:
        if (post(f"/leases/{lease['token']}/{what}", body) or {}).get("cancel_requested"):
            stop.set()
    except OSError as error:  # 409: the attempt is over; else the next report may get through
        if getattr(error, "code", None) == 409:
            stop.set()
            return False
    return True


def serve(lease):
    stop = threading.Event()
    work = POOL.submit(run, lease["task"], stop)
    while wait([work], timeout=3).not_done:
        if not report(lease, stop, "renew", {}):
            return
    report(lease, stop, "finish", {"cancelled": True} if stop.is_set() else work.result())


def ask():
    while not STOPPING.is_set():
        try:
            wanted = {"worker_id": f"{socket.gethostname()}.{os.getpid()}", "wait_seconds": 5}
            for lease in post(f"/executors/{EXECUTOR}/leases", wanted, timeout=15)["leases"]:
                serve(lease)
        except OSError:
            time.sleep(1)  # the service is not there, and may come back


signal.signal(signal.SIGTERM, lambda *_: STOPPING.set())
asking = [threading.Thread(target=ask) for _ in range(SLOTS)]
for thread in asking:
    thread.start()
for thread in asking:
    thread.join()
