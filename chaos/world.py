"""The processes: two databases, replicas behind proxies, workers. And how each is hurt."""

import asyncio
import contextlib
import fcntl
import os
import pathlib
import signal
import subprocess
import time

from database import Database, free_port
from proxy import Proxy
from schedule import REPLICAS, WORKERS

HERE = pathlib.Path(__file__).resolve().parent
# One machine's clock is wrong by three minutes.
SKEWED, SKEW = 2, "+3m"
# How a primary is lost.
LOSSES = ["stop", "kill", "black hole"]
# How long it is neither there nor gone once the standby has taken over, in seconds: longer than
# a process that waits for it needs to see that it waits in vain.
LOST = 15


class Process:
    """A program that is started again whenever it is gone. Its log goes through a pipe, as under a
    supervisor, whose reader may stand still or go away."""

    def __init__(self, name, folder, command, environment=None):
        self.name, self.command = name, command
        self.environment = {**os.environ, **(environment or {})}
        self.log = open(folder / f"{name}.log", "ab", buffering=0)
        self.pipe = folder / f"{name}.pipe"
        os.mkfifo(self.pipe)
        self.reader = None
        self.open_log()
        # Held open, so that the reader sees no end where one child follows another.
        self.writer = os.open(self.pipe, os.O_WRONLY)
        # It holds little, so that it is full soon.
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 4096)
        self.start()

    def start(self):
        self.child = subprocess.Popen(
            self.command, stderr=self.writer, stdout=self.writer, env=self.environment
        )

    def open_log(self):
        if self.reader is None:
            self.reader = os.open(self.pipe, os.O_RDONLY | os.O_NONBLOCK)
        asyncio.get_running_loop().add_reader(
            self.reader, lambda: self.log.write(os.read(self.reader, 65536))
        )

    def block_log(self):
        """The reader stands still."""
        asyncio.get_running_loop().remove_reader(self.reader)

    def close_log(self):
        """The reader goes away: a writer gets an error."""
        self.block_log()
        os.close(self.reader)
        self.reader = None

    def signal(self, number):
        if self.child.poll() is None:
            self.child.send_signal(number)

    async def end(self, number, patience=15):
        """Sends a signal and waits for the end; who does not obey is killed."""
        self.signal(number)
        for _ in range(patience * 20):
            if self.child.poll() is not None:
                return
            await asyncio.sleep(0.05)
        self.signal(signal.SIGKILL)
        self.child.wait()


class World:
    def __init__(self, folder, binary, replicas=REPLICAS, workers=WORKERS, lost=LOST):
        self.folder, self.binary = folder, binary
        self.workers_count, self.lost = workers, lost
        self.database = Database(folder)
        self.ports = [free_port() for _ in range(replicas)]
        # Of each replica to each server.
        self.proxies = [
            {server: Proxy(server.port) for server in self.database.servers} for _ in self.ports
        ]

    async def start(self, journal):
        for proxies in self.proxies:
            for proxy in proxies.values():
                await proxy.start()
        faketime = next(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
        self.replicas = []
        for number, (port, proxies) in enumerate(zip(self.ports, self.proxies, strict=True)):
            hosts = ",".join(f"127.0.0.1:{proxy.port}" for proxy in proxies.values())
            url = f"postgres://nightshift@{hosts}/postgres?target_session_attrs=read-write"
            command = [
                self.binary,
                "serve",
                "--bind",
                f"127.0.0.1:{port}",
                "--database-url",
                url,
                "--shutdown-grace-seconds",
                "2",
            ]
            environment = {}
            if number == SKEWED:
                # Not by the program `faketime`, which would catch the signals.
                environment = {
                    "LD_PRELOAD": str(faketime),
                    "FAKETIME": SKEW,
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                }
            self.replicas.append(Process(f"replica{number}", self.folder, command, environment))
        self.workers = []
        for number in range(self.workers_count):
            server = f"http://127.0.0.1:{self.ports[number % len(self.ports)]}"
            command = [
                self.binary,
                "--server",
                server,
                "worker",
                "--executor",
                "worker",
                "--concurrency",
                "3",
                "--kill-after",
                "1",
                "--",
                HERE / "worker.sh",
            ]
            self.workers.append(
                Process(f"worker{number}", self.folder, command, {"JOURNAL": journal})
            )

    async def hurt(self, fault):
        await getattr(self, f"_{fault.kind}")(fault)

    async def _kill_replica(self, fault, number=signal.SIGKILL):
        await self._end_and_restart(self.replicas[fault.target], number, fault.lasts)

    async def _terminate_replica(self, fault):
        await self._kill_replica(fault, signal.SIGTERM)

    async def _kill_worker(self, fault, number=signal.SIGKILL):
        await self._end_and_restart(self.workers[fault.target], number, fault.lasts)

    async def _terminate_worker(self, fault):
        await self._kill_worker(fault, signal.SIGTERM)

    async def _end_and_restart(self, process, number, after):
        await process.end(number)
        await asyncio.sleep(after)
        if process.child.poll() is not None:
            process.start()

    async def _stop_replica(self, fault):
        await self._pause(self.replicas[fault.target], fault.lasts)

    async def _stop_worker(self, fault):
        await self._pause(self.workers[fault.target], fault.lasts)

    async def _pause(self, process, lasts):
        process.signal(signal.SIGSTOP)
        await asyncio.sleep(lasts)
        process.signal(signal.SIGCONT)

    def _ways(self, fault):
        return self.proxies[fault.target].values()

    async def _cut(self, fault):
        for proxy in self._ways(fault):
            proxy.cut()

    async def _delay(self, fault):
        for proxy in self._ways(fault):
            proxy.delay = 0.05
        await asyncio.sleep(fault.lasts)
        for proxy in self._ways(fault):
            proxy.delay = 0.0

    async def _black_hole(self, fault):
        for proxy in self._ways(fault):
            proxy.close()
        await asyncio.sleep(fault.lasts)
        for proxy in self._ways(fault):
            proxy.open()

    async def _block_log(self, fault):
        log = self.replicas[fault.target]
        log.block_log()
        await asyncio.sleep(fault.lasts)
        log.open_log()

    async def _close_log(self, fault):
        log = self.replicas[fault.target]
        log.close_log()
        await asyncio.sleep(fault.lasts)
        log.open_log()

    async def _end_sessions(self, _fault):
        # While the server is away, it has no sessions to end.
        with contextlib.suppress(OSError):
            await asyncio.to_thread(
                self.database.query,
                "SELECT pg_terminate_backend(pid) "
                "FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                "AND backend_type = 'client backend'",
            )

    async def _restart_database(self, fault):
        await asyncio.to_thread(self.database.primary.stop, "fast")
        await asyncio.sleep(fault.lasts)
        await asyncio.to_thread(self.database.primary.start)

    async def _kill_database(self, fault):
        self.database.primary.kill()
        await asyncio.sleep(fault.lasts)
        await asyncio.to_thread(self.database.primary.start)

    async def _fail_over(self, fault):
        """The primary stands still, dies or cannot be reached; the standby takes over, and gets a
        standby of its own."""
        lost = self.database.primary
        ways = [proxies[lost] for proxies in self.proxies]
        if LOSSES[fault.target] == "stop":
            lost.signal(signal.SIGSTOP)
        elif LOSSES[fault.target] == "kill":
            lost.kill()
        else:
            for way in ways:
                way.close()
        await asyncio.sleep(fault.lasts)
        await asyncio.to_thread(self.database.fail_over)
        self.failed_over = time.monotonic()
        await asyncio.sleep(self.lost)
        lost.kill()
        if LOSSES[fault.target] == "black hole":
            for way in ways:
                way.open()
        await asyncio.to_thread(self.database.pair)

    def mend(self):
        """Whoever has gone by himself, because the database was away as he started."""
        for process in self.replicas + self.workers:
            if process.child.poll() is not None:
                process.start()

    async def stop(self):
        for process in self.workers + self.replicas:
            process.signal(signal.SIGCONT)
            process.signal(signal.SIGTERM)
        await asyncio.gather(
            *(process.end(signal.SIGTERM) for process in self.workers + self.replicas)
        )
        self.database.kill()
