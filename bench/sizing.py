#!/usr/bin/env python3
"""What disk and memory 100,000 tasks take, waiting and ended, and what 5,000 idle connections do.

The tasks have args of 100 bytes, no labels and no log; those that ended have a result of 100 bytes.
Needs TEST_POSTGRES_URL (`scripts/postgres.sh bench/sizing.py`); NIGHTSHIFT names the binary.
"""

import contextlib
import os
import pathlib
import socket
import subprocess
import tempfile

from service import Service

TASKS = 100_000
CONNECTIONS = 5_000
TASK = {"task_path": "bench.reduce_image", "args": ["x" * 96]}


def disk(url):
    if url.startswith("sqlite:"):
        file = url.removeprefix("sqlite://")
        return sum(pathlib.Path(file + end).stat().st_size for end in ("", "-wal"))
    said = subprocess.run(
        ["psql", "-qtA", url, "-c", "VACUUM", "-c", "SELECT pg_database_size(current_database())"],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(said.stdout)


def measure_tasks(url):
    engine = url.split(":")[0]
    with Service(url) as service:
        empty = disk(url)
        service.request("PUT", "/executors/bench", {"kind": "worker", "task_paths": ["bench.*"]})
        print(f"{engine}: idle: {service.memory():.0f} MiB", flush=True)
        for what, do in [
            ("wait", lambda: service.enqueue([TASK] * TASKS)),
            ("have ended", lambda: service.work("bench", {"return_value": "x" * 98})),
        ]:
            do()
            print(
                f"{engine}: {TASKS} tasks {what}: {(disk(url) - empty) / TASKS:.0f} bytes of disk "
                f"each, {service.memory():.0f} MiB",
                flush=True,
            )


def measure_connections(url):
    with Service(url) as service, contextlib.ExitStack() as stack:
        before = service.memory()
        for _ in range(CONNECTIONS):
            connection = stack.enter_context(socket.create_connection(service.address))
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            connection.recv(4096)
        each = (service.memory() - before) * 1024 / CONNECTIONS
        print(
            f"{url.split(':')[0]}: {CONNECTIONS} open connections: {each:.1f} KiB each", flush=True
        )


with tempfile.TemporaryDirectory() as folder:
    for database_url in (f"sqlite://{folder}/bench.db", os.environ["TEST_POSTGRES_URL"]):
        measure_tasks(database_url)
        measure_connections(database_url)
