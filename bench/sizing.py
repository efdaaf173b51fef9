#!/usr/bin/env python3
"""What disk and memory 100,000 tasks take, waiting and ended, and what 5,000 idle connections do.

The tasks have args of 100 bytes, no labels and no log; those that ended have a result of 100 bytes.
Needs TEST_POSTGRES_URL (`scripts/postgres.sh bench/sizing.py`); NIGHTSHIFT names the binary.
"""
import contextlib, json, os, pathlib, signal, socket, subprocess, tempfile, urllib.request

TASKS = 100_000
BATCH = 10_000
CONNECTIONS = 5_000
ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = os.environ.get("NIGHTSHIFT", ROOT / "target/release/nightshift")
POSTGRES = os.environ["TEST_POSTGRES_URL"]


class Service:
    def __init__(self, url):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = free.getsockname()
        self.url = url
        self.process = subprocess.Popen(
            [BINARY, "serve", "--bind", "127.0.0.1:%d" % self.address[1], "--database-url", url],
            stderr=subprocess.PIPE, text=True)
        while "ready" not in self.process.stderr.readline():
            pass

    def ask(self, method, path, body):
        call = urllib.request.Request("http://%s:%d%s" % (*self.address, path),
                                      json.dumps(body).encode(),
                                      {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(call) as answer:
            return json.load(answer)

    def memory(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def disk(self):
        if self.url.startswith("sqlite:"):
            file = self.url.removeprefix("sqlite://")
            return sum(pathlib.Path(file + end).stat().st_size for end in ("", "-wal"))
        said = subprocess.run(["psql", "-qtA", self.url, "-c", "VACUUM", "-c",
                               "SELECT pg_database_size(current_database())"],
                              check=True, capture_output=True, text=True)
        return int(said.stdout)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)


def fill(service):
    task = {"task_path": "bench.reduce_image", "args": ["x" * 96]}
    for _ in range(TASKS // BATCH):
        service.ask("POST", "/tasks/batch", {"tasks": [task] * BATCH})


def work(service):
    lease = {"worker_id": "bench", "max_tasks": 1_000}
    while leases := service.ask("POST", "/executors/bench/leases", lease)["leases"]:
        ends = [{"token": each["token"], "return_value": "x" * 98} for each in leases]
        service.ask("POST", "/leases/finish", {"results": ends})


def measure(url):
    service = Service(url)
    engine = url.split(":")[0]
    def say(what):
        per_task = (service.disk() - empty) / TASKS
        print(f"{engine}: {what}: {per_task:.0f} bytes of disk a task, "
              f"{service.memory():.0f} MiB of memory", flush=True)
    empty = service.disk()
    service.ask("PUT", "/executors/bench", {"kind": "worker", "task_paths": ["bench.*"]})
    idle = service.memory()
    fill(service)
    say(f"{TASKS} tasks wait")
    work(service)
    say(f"{TASKS} tasks have ended")
    service.stop()
    service = Service(url)
    before = service.memory()
    with contextlib.ExitStack() as stack:
        for _ in range(CONNECTIONS):
            connection = stack.enter_context(socket.create_connection(service.address))
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            connection.recv(4096)
        print(f"{engine}: idle {idle:.0f} MiB; {CONNECTIONS} open connections: "
              f"{(service.memory() - before) * 1024 / CONNECTIONS:.1f} KiB each", flush=True)
    service.stop()


with tempfile.TemporaryDirectory() as folder:
    measure(f"sqlite://{folder}/bench.db")
    measure(POSTGRES)
