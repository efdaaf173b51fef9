#!/usr/bin/env python3
"""Has a real Prometheus read a real service and the alert rules, and looks at what comes of it.

Started by scripts/alerts.sh, with `prometheus` on the path and the binary in NIGHTSHIFT.
"""

import contextlib
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from alerts_dashboard import check_dashboard

RULES = Path(__file__).resolve().parent.parent / "helm/nightshift/files/alerts.yaml"
# Longer than the slowest of starts; each wait ends with what is waited for.
PATIENCE = 60
CONFIGURATION = """
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: ['%(rules)s']
scrape_configs:
  - job_name: nightshift
    authorization: {credentials_file: '%(token)s'}
    static_configs: [{targets: ['%(target)s']}]
"""


@contextlib.contextmanager
def running(command, **options):
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def line_of(process, pattern):
    """Waits for a line of a process that says where it listens, and returns that."""
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(pattern, line):
            return found[1]
    raise AssertionError(f"it did not start: {''.join(said)}")


def ask(prometheus, path, **query):
    url = f"http://{prometheus}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)["data"]


def until(condition, what):
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.1)
    return found


class Executor(BaseHTTPRequestHandler):
    """Does every task at once, with null."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *about):
        pass


@contextlib.contextmanager
def executor():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Executor)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def do_work(server, token, url):
    """One of each that rules and panels look at: an attempt that does well, and one that fails."""
    environment = {**os.environ, "NIGHTSHIFT_SERVER": f"http://{server}", "NIGHTSHIFT_TOKEN": token}
    for arguments in (
        ["executor", "put", "hello", "--task-path", "hello.*"],
        ["executor", "put", "web", "--url", url, "--task-path", "web.*"],
        ["enqueue", "web.page", "--wait"],
        ["enqueue", "hello.world"],
        ["worker", "--executor", "hello", "--max-tasks", "1", "--", "true"],
        ["enqueue", "hello.world", "--max-attempts", "1"],
        ["worker", "--executor", "hello", "--max-tasks", "1", "--", "false"],
    ):
        subprocess.run(
            [os.environ["NIGHTSHIFT"], *arguments], env=environment, check=True, capture_output=True
        )


def check(prometheus, server):
    target = until(lambda: ask(prometheus, "targets")["activeTargets"], "a target")[0]
    until(lambda: ask(prometheus, "query", query="up == 1")["result"], "the first scrape")
    assert target["labels"]["job"] == "nightshift", target
    print(f"ok       Prometheus reads {server} with a token")

    names = set(re.findall(r"nightshift_\w+", RULES.read_text()))
    assert len(names) > 5, names
    for name in sorted(names):
        until(lambda name=name: ask(prometheus, "query", query=name)["result"], name)
    print(f"ok       the service has what the rules ask for: {' '.join(sorted(names))}")

    def rules():
        return [rule for group in ask(prometheus, "rules")["groups"] for rule in group["rules"]]

    # The first looks may be from before the first scrape.
    def peaceful():
        found = rules()
        return found and all(
            (rule["health"], rule["state"]) == ("ok", "inactive") for rule in found
        )

    until(peaceful, "rules that hold their peace while all is well")
    print(f"ok       {len(rules())} rules hold their peace while all is well")
    check_dashboard(lambda query: ask(prometheus, "query", query=query)["result"], until)


def main():
    token = secrets.token_hex(32)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        service = stack.enter_context(
            running(
                [os.environ["NIGHTSHIFT"], "serve", "--bind", "127.0.0.1:0"],
                cwd=folder,
                env={**os.environ, "NIGHTSHIFT_ADMIN_TOKEN": token},
            )
        )
        server = line_of(service, r"nightshift is ready.*?(127\.0\.0\.1:\d+)")
        do_work(server, token, stack.enter_context(executor()))
        (folder / "token").write_text(token)
        configuration = folder / "prometheus.yml"
        configuration.write_text(
            CONFIGURATION % {"rules": RULES, "token": folder / "token", "target": server}
        )
        prometheus = stack.enter_context(
            running(
                [
                    "prometheus",
                    f"--config.file={configuration}",
                    f"--storage.tsdb.path={folder}/data",
                    "--web.listen-address=127.0.0.1:0",
                ],
                stdout=subprocess.DEVNULL,
            )
        )
        address = line_of(prometheus, r"Listening on.*address=(127\.0\.0\.1:\d+)")
        line_of(prometheus, r"(Server is ready)")
        check(address, server)


if __name__ == "__main__":
    sys.exit(main())
