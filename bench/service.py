"""A service of its own for a benchmark in Python; `bench/service.sh` is the same for the shell."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import urllib.request

TARGET = os.environ.get(
    "CARGO_TARGET_DIR", pathlib.Path(__file__).resolve().parent.parent / "target"
)
NIGHTSHIFT = os.environ.get("NIGHTSHIFT", pathlib.Path(TARGET) / "release/nightshift")
# Arguments and result of a task, about as large as those of users.
CARRIED = {"args": ["m31", 42], "kwargs": {"exptime": 30.5}}
RESULT = {"sources": 69, "zero_point": 25.31}
# As many as one request may have.
BATCH = 10_000


class Service:
    """Runs from its making until it is stopped, or the `with` that it is in ends."""

    def __init__(self, database_url):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = free.getsockname()
        self.bind = f"127.0.0.1:{self.address[1]}"
        self.process = subprocess.Popen(
            [NIGHTSHIFT, "serve", "--bind", self.bind, "--database-url", database_url],
            stderr=subprocess.PIPE,
            text=True,
        )
        while "ready" not in (line := self.process.stderr.readline()):
            assert line, "the service did not start"
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def request(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        call = urllib.request.Request(
            f"http://{self.bind}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(call) as answer:
            return json.load(answer)

    def enqueue(self, tasks):
        """Enqueues a list of any length, and returns the ids."""
        ids = []
        for start in range(0, len(tasks), BATCH):
            batch = {"tasks": tasks[start : start + BATCH]}
            ids += self.request("POST", "/tasks/batch", batch)["ids"]
        return ids

    def lease(self, executor, count=1_000):
        ask = {"worker_id": "bench", "max_tasks": count}
        return self.request("POST", f"/executors/{executor}/leases", ask)["leases"]

    def work(self, executor, end):
        """Ends all tasks that wait for the executor."""
        while leases := self.lease(executor):
            ends = [{"token": each["token"], **end} for each in leases]
            self.request("POST", "/leases/finish", {"results": ends})

    def memory(self):
        """Resident, in MiB."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024
