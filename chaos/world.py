"""The processes: a database, replicas behind proxies, workers. And how each is hurt."""
import asyncio
import os
import pathlib
import pwd
import signal
import socket
import subprocess
import time

from proxy import Proxy
from schedule import REPLICAS, WORKERS

HERE = pathlib.Path(__file__).resolve().parent
# One machine's clock is wrong by three minutes.
SKEWED, SKEW = 2, "+3m"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Database:
    """A PostgreSQL cluster of its own; what it commits is on the disk."""

    def __init__(self, folder):
        self.bin = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"),
                          key=lambda path: int(path.parent.name))[-1]
        self.folder, self.port = folder / "postgres", free_port()
        self.folder.mkdir()
        self.user = {}
        if os.getuid() == 0:
            postgres = pwd.getpwnam("postgres")
            folder.chmod(0o711)
            os.chown(self.folder, postgres.pw_uid, postgres.pw_gid)
            self.user = {"user": postgres.pw_uid, "group": postgres.pw_gid, "extra_groups": []}
        self._run("initdb", "-D", self.folder / "data", "-U", "nightshift", "-A", "trust",
                  "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
        self.start()

    def _run(self, program, *arguments):
        subprocess.run([self.bin / program, *arguments], check=True, cwd=self.folder,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self.user)

    def start(self):
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -k {self.folder}"
        for tries_left in reversed(range(60)):
            try:
                self._run("pg_ctl", "-D", self.folder / "data", "-w", "-t", "60", "-l",
                          self.folder / "log", "-o", options, "start")
                return
            except subprocess.CalledProcessError:
                # What is left of a server that was killed holds its memory for a moment.
                if not tries_left:
                    raise
                time.sleep(0.5)

    def stop(self, mode="immediate"):
        self._run("pg_ctl", "-D", self.folder / "data", "-m", mode, "stop")

    def kill(self):
        """The server, and with it all its sessions."""
        try:
            pid = int((self.folder / "data/postmaster.pid").read_text().split()[0])
        except FileNotFoundError:
            return
        children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)
        for process in [pid, *map(int, children.stdout.split())]:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def query(self, sql):
        """Rows of text; OSError while the database is away."""
        done = subprocess.run([self.bin / "psql", self.url(self.port), "-AtX", "-F", "\t", "-c",
                               sql], capture_output=True, text=True)
        if done.returncode:
            raise OSError(done.stderr)
        return [line.split("\t") for line in done.stdout.splitlines()]

    @staticmethod
    def url(port):
        return f"postgres://nightshift@127.0.0.1:{port}/postgres"


class Process:
    """A program that is started again whenever it is gone."""

    def __init__(self, name, folder, command, environment=None):
        self.name, self.command = name, command
        self.environment = {**os.environ, **(environment or {})}
        self.log = open(folder / f"{name}.log", "ab")
        self.start()

    def start(self):
        self.child = subprocess.Popen(self.command, stderr=self.log, stdout=self.log,
                                      env=self.environment)

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
    def __init__(self, folder, binary):
        self.folder, self.binary = folder, binary
        self.database = Database(folder)

    async def start(self, journal):
        self.proxies = [Proxy(self.database.port) for _ in range(REPLICAS)]
        for proxy in self.proxies:
            await proxy.start()
        self.ports = [free_port() for _ in range(REPLICAS)]
        faketime = next(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
        self.replicas = []
        for number, (port, proxy) in enumerate(zip(self.ports, self.proxies)):
            command = [self.binary, "serve", "--bind", f"127.0.0.1:{port}", "--database-url",
                       Database.url(proxy.port), "--shutdown-grace-seconds", "2"]
            environment = {}
            if number == SKEWED:
                # Not by the program `faketime`, which would catch the signals.
                environment = {"LD_PRELOAD": str(faketime), "FAKETIME": SKEW,
                               "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
            self.replicas.append(Process(f"replica{number}", self.folder, command, environment))
        self.workers = []
        for number in range(WORKERS):
            server = f"http://127.0.0.1:{self.ports[number % REPLICAS]}"
            command = [self.binary, "--server", server, "worker", "--executor", "worker",
                       "--concurrency", "3", "--kill-after", "1", "--", HERE / "worker.sh"]
            self.workers.append(Process(f"worker{number}", self.folder, command,
                                        {"JOURNAL": journal}))

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

    async def _cut(self, fault):
        self.proxies[fault.target].cut()

    async def _delay(self, fault):
        self.proxies[fault.target].delay = 0.05
        await asyncio.sleep(fault.lasts)
        self.proxies[fault.target].delay = 0.0

    async def _black_hole(self, fault):
        self.proxies[fault.target].open.clear()
        await asyncio.sleep(fault.lasts)
        self.proxies[fault.target].open.set()

    async def _end_sessions(self, _fault):
        try:
            await asyncio.to_thread(self.database.query, "SELECT pg_terminate_backend(pid) "
                                    "FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                                    "AND backend_type = 'client backend'")
        except OSError:
            pass  # It is away, and all its sessions with it.

    async def _restart_database(self, fault):
        await asyncio.to_thread(self.database.stop, "fast")
        await asyncio.sleep(fault.lasts)
        await asyncio.to_thread(self.database.start)

    async def _kill_database(self, fault):
        self.database.kill()
        await asyncio.sleep(fault.lasts)
        await asyncio.to_thread(self.database.start)

    def mend(self):
        """Whoever has gone by himself, because the database was away as he started."""
        for process in self.replicas + self.workers:
            if process.child.poll() is not None:
                process.start()

    async def stop(self):
        for process in self.workers + self.replicas:
            process.signal(signal.SIGCONT)
            process.signal(signal.SIGTERM)
        await asyncio.gather(*(process.end(signal.SIGTERM)
                               for process in self.workers + self.replicas))
        self.database.kill()
