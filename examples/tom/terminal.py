"""Runs commands as a person would type them, and shows them with what they print."""

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

SOON = 120


def say(text):
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n# {text}", flush=True)


class Terminal:
    """A shell in a folder, with an environment."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.folder = folder
        self.environment = {**os.environ, **environment}
        self.programs: list[Program] = []

    def run(self, *command, stdin="", status=0, quiet=False):
        """Runs the command to its end, and answers what it printed."""
        print(f"$ {shown(command)}", flush=True)
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SOON,
        )
        if not quiet:
            print(done.stdout.rstrip(), flush=True)
        if done.returncode != status:
            raise SystemExit(f"exit status {done.returncode} instead of {status}:\n{done.stdout}")
        return done.stdout

    def start(self, *command, name):
        """Starts a program that goes on; its lines are shown with its name before them."""
        print(f"$ {shown(command)} &", flush=True)
        program = Program(
            name,
            subprocess.Popen(
                command,
                cwd=self.folder,
                env={**self.environment, "PYTHONUNBUFFERED": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ),
        )
        self.programs.append(program)
        return program

    def stop_all(self):
        for program in reversed(self.programs):
            program.stop()


class Program:
    """A program in the background."""

    def __init__(self, name, process):
        self.name = name
        self.process = process
        self.lines = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            print(f"  [{self.name}] {line.rstrip()}", flush=True)

    def says(self, pattern, times=1):
        """Returns once so many of its lines match."""
        end = time.monotonic() + SOON
        while sum(bool(re.search(pattern, line)) for line in self.lines) < times:
            if time.monotonic() > end or self.process.poll() is not None:
                raise SystemExit(f"{self.name} does not say {pattern!r}")
            time.sleep(0.05)

    def stop(self):
        """Ends it with SIGTERM, and answers its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(SOON)
        self.reader.join(SOON)
        return self.process.returncode


def shown(command):
    """The command with quotes where a shell wants them, and lines where it has them."""
    words = [str(word) for word in command]
    return " ".join(f"'{word}'" if re.search(r"[\s()*;]", word) else word for word in words)


def edit(file: Path, old: str, new: str):
    """Replaces a piece of text that must be there, and shows the difference."""
    text = file.read_text()
    if old not in text:
        raise SystemExit(f"{file} has no {old!r}")
    file.write_text(text.replace(old, new, 1))
    for sign, lines in (("-", old), ("+", new)):
        for line in lines.strip("\n").splitlines():
            print(f"  {sign} {line}")
