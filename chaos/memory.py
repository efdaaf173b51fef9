#!/usr/bin/env python3
"""Starts the service with 1 GiB of memory and asks for more than that at once, in each way that
there is and in all of them together, on both engines. Says how much memory it took at most, how
long the slowest /healthz was, and how many attempts were burnt; ends with 1 if the service ended,
an attempt was burnt, or /healthz took too long.

Needs root where control groups belong to root, a PostgreSQL server's programs, 3 GiB and python3.
"""

import argparse
import http.client
import multiprocessing
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import cgroup
from database import Server, free_port
from loads import PARTS, Load

HEALTH_SECONDS_MAX = 0.5


class Service:
    """One process with a limit on its memory."""

    def __init__(self, binary, database_url, mib):
        self.port = free_port()
        self.group = cgroup.Group(mib)
        # The shell waits for a line, by which it is in the group before it becomes the service.
        self.process = subprocess.Popen(
            [
                "sh",
                "-c",
                'read -r _ && exec "$@" 2>&1',
                "sh",
                binary,
                "serve",
                "--bind",
                f"127.0.0.1:{self.port}",
                "--database-url",
                database_url,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.group.take(self.process.pid)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        while "ready" not in (line := self.process.stdout.readline()):
            assert line, "the service did not start"
        self.log = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.log = [*self.log[-20:], line]

    def resident_mib(self, kind="VmHWM"):
        """What it had at most; RssAnon: what it has now that is not read from files."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status")
        try:
            return int(status.read_text().split(f"{kind}:")[1].split()[0]) >> 10
        except (OSError, IndexError):
            return 0

    def is_alive(self):
        return self.process.poll() is None

    def stop(self):
        if self.is_alive():
            self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.group.remove()


class Health:
    """Asks for the service's health ten times a second, in a process of its own: one that also
    sends bodies of 60 MiB would measure itself."""

    def __init__(self, port, seconds):
        self.slowest, self.count, self.failed = 0.0, 0, 0
        self.said, said = multiprocessing.Pipe(duplex=False)
        self.process = multiprocessing.Process(
            target=self._ask, args=(port, seconds, said), daemon=True
        )
        self.process.start()

    def _ask(self, port, seconds, said):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            began = time.monotonic()
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                connection.request("GET", "/healthz")
                if connection.getresponse().status != 200:
                    self.failed += 1
                connection.close()
            except (OSError, http.client.HTTPException):
                self.failed += 1
            took = time.monotonic() - began
            self.slowest, self.count = max(self.slowest, took), self.count + 1
            time.sleep(max(0.0, 0.1 - took))
        said.send((self.slowest, self.count, self.failed))

    def end(self):
        assert self.said.poll(60), "the process that asks for /healthz hangs"
        self.slowest, self.count, self.failed = self.said.recv()
        self.process.join()


NO_ANSWER = (OSError, http.client.HTTPException)


def run(part, load, until, service):
    """A part that was cut off begins anew, as long as there is a service."""
    while time.monotonic() < until and service.is_alive():
        try:
            part(load, until)
        except NO_ANSWER as error:
            load.count(f"cut off by {type(error).__name__}")
            time.sleep(0.2)


def count_attempts(load, service):
    """Attempts that were burnt and tasks that have ended, if the service is there to say so."""
    while service.is_alive():
        try:
            return load.attempts()
        except NO_ANSWER:
            time.sleep(0.2)
    return None, None


def try_part(binary, engine, url, name, mib, seconds):
    """Says what came of it on one line, and returns whether that is good."""
    service = Service(binary, url, mib)
    try:
        load = Load(service.port)
        load.prepare(PARTS[name])
        until = time.monotonic() + seconds
        health = Health(service.port, seconds)
        threads = [
            threading.Thread(target=run, args=(work, load, until, service), daemon=True)
            for part in PARTS[name]
            for work in part.runs
        ]
        for thread in threads:
            thread.start()
        anonymous = 0
        while time.monotonic() < until and service.is_alive():
            anonymous = max(anonymous, service.resident_mib("RssAnon"))
            time.sleep(0.1)
        health.end()
        for thread in threads:
            thread.join(60)
        burnt, ended = count_attempts(load, service)
        alive = service.is_alive()
        good = (
            alive
            and not burnt
            and not health.failed
            and not service.group.kills()
            and health.slowest < HEALTH_SECONDS_MAX
        )
        print(
            f"{'good' if good else 'BAD ':4} {engine:8} {name:7}"
            f" peak {service.group.peak_mib()} MiB"
            f" (resident {service.resident_mib()}, {anonymous} of it not of files),"
            f" healthz {health.slowest * 1000:.0f} ms at most of {health.count},"
            f" {health.failed} failed; attempts burnt {burnt}, tasks ended {ended};"
            f" {load.said()}{'' if alive else '; THE SERVICE ENDED'}",
            flush=True,
        )
        if not alive:
            print("".join(service.log), flush=True)
        return good
    finally:
        service.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--binary", required=True, type=pathlib.Path)
    parser.add_argument("--minutes", type=float, default=5, help="for each part on each engine")
    parser.add_argument("--mib", type=int, default=1024, help="what the service gets")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--engines", nargs="+", default=["sqlite", "postgres"])
    options = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        database = Server(folder, "postgres") if "postgres" in options.engines else None
        try:
            if database:
                database.make()
            for engine in options.engines:
                for number, name in enumerate(options.parts):
                    url = f"sqlite://{folder / name}.db"
                    if engine == "postgres":
                        database.query(f"CREATE DATABASE part{number}")
                        url = database.url(f"part{number}")
                    good &= try_part(
                        options.binary, engine, url, name, options.mib, options.minutes * 60
                    )
        except cgroup.Unavailable as error:
            print(f"The limit cannot be set here, so nothing was tried: {error}", file=sys.stderr)
            return 2
        finally:
            if database:
                database.stop("fast")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
