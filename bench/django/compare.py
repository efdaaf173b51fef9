#!/usr/bin/env python
"""django-nightshift beside django-tasks-db: the same site, tasks and machine, one after the other.

Both keep their tasks in SQLite, django-tasks-db in the site's own database, Nightshift in its. The
figures are medians of ROUNDS rounds, each on an empty database. Started by `make bench-django`.
"""

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
ROUNDS = 5
TASKS = 1000
LEASE_SECONDS = 5
WORKERS = {"django-tasks-db": "db_worker", "nightshift": "nightshift_worker"}


class Site:
    """A fresh site with a backend, and with Nightshift its service."""

    def __init__(self, backend, folder):
        self.backend = backend
        self.folder = Path(folder)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self.environment = {
            **os.environ,
            "BENCH_BACKEND": backend,
            "BENCH_FOLDER": str(folder),
            "DJANGO_SETTINGS_MODULE": "settings",
            "NIGHTSHIFT_SERVER": f"http://127.0.0.1:{self.port}",
            "PYTHONPATH": f"{HERE}:{os.environ['PYTHONPATH']}",
        }

    def __enter__(self):
        self.service = None
        if self.backend == "nightshift":
            self.service = subprocess.Popen(
                [os.environ["NIGHTSHIFT"], "serve", "--bind", f"127.0.0.1:{self.port}"],
                cwd=self.folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            self._until_ready()
        else:
            self.run("-m", "django", "migrate", "-v0")
        return self

    def __exit__(self, *_):
        if self.service:
            self.service.terminate()
            self.service.wait()

    def _until_ready(self):
        until = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz"):
                    return
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def start(self, *arguments, **more):
        return subprocess.Popen(
            [sys.executable, *arguments], cwd=HERE, env=self.environment, text=True, **more
        )

    def run(self, *arguments):
        with self.start(*arguments, stdout=subprocess.PIPE) as process:
            out, _ = process.communicate(timeout=300)
        assert process.returncode == 0, arguments
        return out

    def enqueue(self, count):
        return json.loads(self.run("enqueue.py", str(count)))

    def worker(self, *arguments):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return self.start(
            "-m", "django", WORKERS[self.backend], "--no-startup-delay", *arguments, **quiet
        )

    def ask(self, code):
        """What the code prints, run in the site."""
        head = "import django; django.setup(); import json; from tasks import *; "
        return json.loads(self.run("-c", head + code))

    def results(self, ids, code):
        """What the code prints of `results`, the tasks' results."""
        file = self.folder / "ids.json"
        file.write_text(json.dumps(ids))
        ids = f"json.load(open({str(file)!r}))"
        return self.ask(f"results = [noop.get_result(i) for i in {ids}]; print({code})")

    def times(self, ids):
        """When the first of the tasks began and the last one ended."""
        return self.results(
            ids,
            "json.dumps([min(r.started_at for r in results).timestamp(), "
            "max(r.finished_at for r in results).timestamp()])",
        )

    def count_unfinished(self, ids):
        return self.results(ids, "sum(not r.is_finished for r in results)")


def one_after_the_other(site):
    """Tasks enqueued a second by one process, and run a second by one worker."""
    enqueued = site.enqueue(TASKS)
    assert site.worker("--batch").wait(300) == 0
    began, ended = site.times(enqueued["ids"])
    return TASKS / sum(enqueued["took"]), TASKS / (ended - began)


def all_together(site):
    """The slowest of 400 enqueues by 4 processes while 2 workers run, and how many failed."""
    workers = [site.worker() for _ in range(2)]
    processes = [site.start("enqueue.py", "100", stdout=subprocess.PIPE) for _ in range(4)]
    answers = [process.communicate(timeout=300)[0] for process in processes]
    failed = sum(process.returncode != 0 for process in processes)
    done = [json.loads(answer) for answer in answers if answer]
    ids = [i for one in done for i in one["ids"]]
    until = time.monotonic() + 60
    while site.count_unfinished(ids) and time.monotonic() < until:
        time.sleep(0.2)
    for worker in workers:
        worker.terminate()
        worker.wait(60)
    return max(took for one in done for took in one["took"]), failed


def after_a_kill(site):
    """What a task is a lease and ten seconds after its worker got SIGKILL."""
    if site.backend == "nightshift":
        site.run("-m", "django", "nightshift_register", f"--lease-seconds={LEASE_SECONDS}", "-v0")
    result = site.ask("print(json.dumps(sleep.enqueue(600).id))")
    worker = site.worker()
    status = f"print(json.dumps(str(sleep.get_result({result!r}).status)))"
    until = time.monotonic() + 60
    while site.ask(status) != "RUNNING":
        assert time.monotonic() < until
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    time.sleep(LEASE_SECONDS + 10)
    return site.ask(status)


def main():
    measured = {backend: [] for backend in WORKERS}
    for round_number in range(ROUNDS):
        for backend in WORKERS:
            with tempfile.TemporaryDirectory() as folder, Site(backend, folder) as site:
                rates = one_after_the_other(site)
            with tempfile.TemporaryDirectory() as folder, Site(backend, folder) as site:
                measured[backend].append((*rates, *all_together(site)))
            print(f"round {round_number + 1}: {backend} {measured[backend][-1]}", file=sys.stderr)
    print("backend            enqueue/s  run/s  slowest of 400 enqueues  failed  after kill -9")
    for backend, rounds in measured.items():
        enqueued, ran, slowest, failed = zip(*rounds, strict=True)
        with tempfile.TemporaryDirectory() as folder, Site(backend, folder) as site:
            status = after_a_kill(site)
        print(
            f"{backend:17}  {statistics.median(enqueued):9.0f}  {statistics.median(ran):5.0f}  "
            f"{statistics.median(slowest) * 1000:20.0f} ms  {sum(failed):6}  {status}"
        )


if __name__ == "__main__":
    main()
