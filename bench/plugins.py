#!/usr/bin/env python3
"""What plugins cost, and whether they leave the service alone.

Usage: plugins.py NIGHTSHIFT GUEST FOLDER. GUEST is what nightshift-guests prints, FOLDER has the
example components and images/ (`make plugins`). Started by `make bench-plugins`.
"""

import contextlib
import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import datetime

NIGHTSHIFT, GUEST, FOLDER = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
EXAMPLES = {
    "Rust": FOLDER / "visibility.wasm",
    "C": FOLDER / "source-extraction-c.wasm",
    "JavaScript": FOLDER / "alert-filter.wasm",
    "Python": FOLDER / "source-extraction-python.wasm",
}
EXTRACT = "astronomy.extract_sources"
IMAGE = '["/data/images/image.fits"]'
M13 = '["/data/images/m13.fits"]'
AT_ONCE = 32
STOPS = 100
POSTS = 2_000
RUNS = 10_000


def main():
    per_run()
    with tempfile.TemporaryDirectory() as folder, service(folder, runs_max=1) as server:
        register_guest(server)
        stop_latency(server)
    with tempfile.TemporaryDirectory() as folder, service(folder) as server:
        install_to_result(server)
        register_guest(server)
        beside_burning_plugins(server)
        memory_over_runs(server)
        ten_plugins(server)
        server.stop()
        restart(server, folder)


def measure(component, task_path, *more):
    """What `plugin run --repeat` says: mean and p99 in ms, runs a second, MiB at most."""
    command = [NIGHTSHIFT, "plugin", "run", component, task_path, *more]
    said = subprocess.run(command, check=False, capture_output=True, text=True).stderr
    line = next(line for line in said.splitlines() if "at once:" in line)
    return [float(n) for n in re.findall(r"(?:mean|p99|ms,|at most) ([\d.]+)", line)]


def per_run():
    print("A run that does nothing, in a fresh instance: mean, p99, a second on one core")
    for language, component in {"text (WAT)": GUEST, **EXAMPLES}.items():
        task = "guest.echo" if component == GUEST else "no.such.task"
        mean, p99, rate, _ = measure(component, task, "--repeat", "2000")
        print(f"  {language:12} {mean:.3f} ms  {p99:.3f} ms  {rate:,.0f}/s")
    print(f"Memory of each of {AT_ONCE} runs at once, beside what the process has with one")
    images = ("--args", M13, "--directory", f"images={FOLDER / 'images'}")
    for what, component, task, more in (
        ("text (WAT)", GUEST, "guest.polite", ("--timeout", "1")),
        ("C, on m13.fits", EXAMPLES["C"], EXTRACT, images),
        ("Python, on m13.fits", EXAMPLES["Python"], EXTRACT, images),
    ):
        one = measure(component, task, "--repeat", "3", *more)[3]
        number = str(AT_ONCE)
        many = measure(component, task, "--repeat", number, "--at-once", number, *more)[3]
        print(f"  {what:20} {(many - one) / (AT_ONCE - 1):.2f} MiB")


@contextlib.contextmanager
def service(folder, runs_max=64):
    server = Server(folder, runs_max)
    try:
        yield server
    finally:
        server.stop()


class Server:
    def __init__(self, folder, runs_max):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        environment = {
            **os.environ,
            "NIGHTSHIFT_PLUGIN_RUNS_MAX": str(runs_max),
            "NIGHTSHIFT_PLUGIN_MEMORY_MIB": str(runs_max * 128),
            "NIGHTSHIFT_PLUGIN_CACHE": f"{folder}/cache",
            "NIGHTSHIFT_PLUGIN_DIRECTORIES": f'{{images="{FOLDER / "images"}"}}',
        }
        database = f"sqlite://{folder}/bench.db"
        command = [NIGHTSHIFT, "serve", "--bind", self.address, "--database-url", database]
        begin = time.perf_counter()
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
        while not self.is_ready():
            pass
        self.started_in = time.perf_counter() - begin

    def is_ready(self):
        try:
            self.request("GET", "/readyz")
        except OSError:
            return False
        return True

    def request(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        call = urllib.request.Request(f"http://{self.address}{path}", data, method=method)
        call.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(call, timeout=120) as answer:
            return json.load(answer)

    def enqueue(self, task_path, args=(), **more):
        return self.request("POST", "/tasks", {"task_path": task_path, "args": list(args), **more})

    def ended(self, task):
        return self.request("GET", f"/tasks/{task['id']}?wait=60")

    def when(self, task, status):
        while (now := self.request("GET", f"/tasks/{task['id']}"))["status"] != status:
            pass
        return now

    def command(self, *words):
        command = [NIGHTSHIFT, "--server", f"http://{self.address}", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def resident_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


def install_to_result(server):
    for language in ("C", "Python"):
        begin = time.perf_counter()
        server.command("plugin", "install", "extract", str(EXAMPLES[language]))
        server.command(
            "executor", "put", "extract", "--plugin", "extract", "--grant-directory", "images"
        )
        ended = server.ended(server.enqueue(EXTRACT, json.loads(IMAGE)))
        assert ended["status"] == "SUCCESSFUL", ended
        print(f"install to first result, {language}: {time.perf_counter() - begin:.2f} s")


def register_guest(server):
    server.command("plugin", "install", "guest", GUEST)
    server.command(
        "executor",
        "put",
        "guest",
        "--plugin",
        "guest",
        "--task-path",
        "guest.*",
        "--concurrency",
        "1",
        "--max-attempts",
        "1",
    )


def seconds(text):
    return datetime.fromisoformat(text).timestamp()


def stop_latency(server):
    """There is one place for a run, so that the next task ends only after the loop is over."""
    late = {"cancel": [], "timeout": []}
    for _ in range(STOPS):
        task = server.enqueue("guest.loop")
        server.when(task, "RUNNING")
        begin = time.time()
        server.request("POST", f"/tasks/{task['id']}/cancel", {})
        after = server.ended(server.enqueue("guest.echo"))
        late["cancel"].append(seconds(after["finished_at"]) - begin)
        task = server.enqueue("guest.loop", timeout_seconds=0.2)
        after = server.ended(server.enqueue("guest.echo"))
        begin = seconds(server.ended(task)["started_at"]) + 0.2
        late["timeout"].append(seconds(after["finished_at"]) - begin)
    for what, times in late.items():
        print(f"{what} of an endless loop, until the next task has run: {summary(times)}")


def cpu_seconds(server):
    fields = pathlib.Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def summary(times):
    ordered = sorted(time * 1000 for time in times)
    p99 = ordered[int(len(ordered) * 0.99) - 1]
    return (
        f"median {statistics.median(ordered):.1f} ms, p99 {p99:.1f} ms, "
        f"most {ordered[-1]:.1f} ms of {len(ordered)}"
    )


def post_times(server):
    times = []
    for _ in range(POSTS):
        begin = time.perf_counter()
        server.enqueue("nobody.serves.it")
        times.append(time.perf_counter() - begin)
    return times


def beside_burning_plugins(server):
    print(f"POST /tasks alone: {summary(post_times(server))}")
    server.command(
        "executor",
        "put",
        "guest",
        "--plugin",
        "guest",
        "--task-path",
        "guest.*",
        "--concurrency",
        "10",
        "--max-attempts",
        "1",
    )
    burning = [server.enqueue("guest.loop", timeout_seconds=600) for _ in range(2)]
    for task in burning:
        server.when(task, "RUNNING")
    busy, begin = cpu_seconds(server), time.perf_counter()
    print(f"POST /tasks while two plugins burn: {summary(post_times(server))}")
    cores = (cpu_seconds(server) - busy) / (time.perf_counter() - begin)
    print(f"  (the service used {cores:.2f} of {os.cpu_count()} cores meanwhile)")
    for task in burning:
        server.request("POST", f"/tasks/{task['id']}/cancel", {})


def memory_over_runs(server):
    def run(number):
        for begin in range(0, number, 1000):
            count = min(1000, number - begin)
            tasks = [{"task_path": "guest.echo"}] * count
            ids = server.request("POST", "/tasks/batch", {"tasks": tasks})["ids"]
            for task in ids:
                server.ended({"id": task})

    run(1000)
    before = server.resident_mib()
    run(RUNS)
    after = server.resident_mib()
    print(
        f"memory after 1,000 runs and after {RUNS:,} more: {before:.1f} MiB, {after:.1f} MiB "
        f"(ratio {after / before:.2f})"
    )


def ten_plugins(server):
    for number in range(2):
        for language, component in EXAMPLES.items():
            server.command("plugin", "install", f"{language}-{number}", str(component))


def restart(server, folder):
    plugins = 10
    with service(folder) as again:
        begin = time.perf_counter()
        assert len(again.request("GET", "/plugins")["items"]) == plugins
        ended = again.ended(again.enqueue(EXTRACT, json.loads(IMAGE)))
        assert ended["status"] == "SUCCESSFUL", ended
        first = time.perf_counter() - begin
        print(
            f"second start with {plugins} plugins: ready after {again.started_in:.3f} s, "
            f"then the first result of the one in Python after {first:.2f} s"
        )


main()
