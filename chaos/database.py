"""PostgreSQL: a primary, and a standby that has everything before it is acknowledged."""

import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import time

# A standby that has lost its primary looks for it again after so long.
LOOK = "-c wal_retrieve_retry_interval=200ms -c max_connections=100 -c hot_standby=on"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """One server with its own data; what it commits is on the disk."""

    def __init__(self, folder, name):
        self.bin = sorted(
            pathlib.Path("/usr/lib/postgresql").glob("*/bin"),
            key=lambda path: int(path.parent.name),
        )[-1]
        self.folder, self.port = folder / name, free_port()
        self.data = self.folder / "data"
        self.folder.mkdir()
        self.user = {}
        if os.getuid() == 0:
            postgres = pwd.getpwnam("postgres")
            folder.chmod(0o711)
            os.chown(self.folder, postgres.pw_uid, postgres.pw_gid)
            self.user = {"user": postgres.pw_uid, "group": postgres.pw_gid, "extra_groups": []}

    def _run(self, program, *arguments):
        subprocess.run(
            [self.bin / program, *arguments],
            check=True,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self.user,
        )

    def make(self):
        self._run(
            "initdb",
            "-D",
            self.data,
            "-U",
            "nightshift",
            "-A",
            "trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        )
        self.start()

    def follow(self, primary):
        """Begins anew with the primary's data, and follows it."""
        shutil.rmtree(self.data, ignore_errors=True)
        self._run(
            "pg_basebackup",
            "-D",
            self.data,
            "-d",
            primary.url(),
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "--no-sync",
        )
        self.start()
        # The primary's settings that it was given would let it wait for itself.
        self.query("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")

    def start(self):
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -k {self.folder} {LOOK}"
        for tries_left in reversed(range(60)):
            try:
                self._run(
                    "pg_ctl",
                    "-D",
                    self.data,
                    "-w",
                    "-t",
                    "60",
                    "-l",
                    self.folder / "log",
                    "-o",
                    options,
                    "start",
                )
                return
            except subprocess.CalledProcessError:
                # The rest of a server that was killed holds its memory for a moment.
                if not tries_left:
                    raise
                time.sleep(0.5)

    def stop(self, mode="immediate"):
        self._run("pg_ctl", "-D", self.data, "-m", mode, "stop")

    def promote(self):
        self._run("pg_ctl", "-D", self.data, "-w", "-t", "60", "promote")

    def signal(self, number):
        """The server, and with it all its sessions."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split()[0])
        except FileNotFoundError:
            return
        children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)
        for process in [pid, *map(int, children.stdout.split())]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def kill(self):
        self.signal(signal.SIGKILL)

    def query(self, *statements):
        """Rows of text of the last one; OSError while the server is away."""
        commands = [word for statement in statements for word in ("-c", statement)]
        done = subprocess.run(
            [self.bin / "psql", self.url(), "-AtX", "-F", "\t", *commands],
            capture_output=True,
            text=True,
            env={**os.environ, "PGCONNECT_TIMEOUT": "5"},
        )
        if done.returncode:
            raise OSError(done.stderr)
        return [line.split("\t") for line in done.stdout.splitlines()]

    def url(self, database="postgres"):
        return f"postgres://nightshift@127.0.0.1:{self.port}/{database}"


class Database:
    """Two servers that take turns."""

    def __init__(self, folder):
        self.servers = [Server(folder, "one"), Server(folder, "two")]
        self.primary, self.standby = self.servers
        self.primary.make()
        self.pair()

    def pair(self):
        """From here on a commit waits for the standby."""
        self.standby.follow(self.primary)
        while self.primary.query(
            "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        ) != [["1"]]:
            time.sleep(0.1)
        self.primary.query(
            "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"
        )

    def fail_over(self):
        """The standby takes over. The one before is gone for good before it can come back."""
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary

    def query(self, sql):
        return self.primary.query(sql)

    def kill(self):
        for server in self.servers:
            server.kill()
