#!/usr/bin/env python3
"""Restarts two services behind each proxy of packaging/proxy while clients send requests that may
not fail, and looks whether what docs/PROXY.md says of bodies, events and names is so.

Started by scripts/proxy.sh, with the programs in NGINX and HAPROXY, the binary in NIGHTSHIFT and a
PostgreSQL server in TEST_POSTGRES_URL.
"""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urldefrag, urljoin

CONFIGURATIONS = Path(__file__).resolve().parent.parent / "packaging/proxy"
NAME = "tasks.example.org"
# Below which docs/PROXY.md puts the service, by these lines before others of the configurations.
PATH = "/nightshift"
BELOW_PATH = {
    "nginx": ("location / {", f"location {PATH}/ {{ proxy_pass http://nightshift/; }}"),
    "haproxy": ("default_backend ", rf"http-request replace-path ^{PATH}/(.*) /\1"),
}
REQUESTS = 10_000
CLIENTS = 4
# Longer than the slowest of starts; each wait ends with what is waited for.
PATIENCE = 60
DRAIN = "5"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(what, found, patience=PATIENCE):
    end = time.monotonic() + patience
    while not found():
        assert time.monotonic() < end, f"{what} did not come within {patience} s"
        time.sleep(0.05)


def ask(port, method, path, body=None, timeout=PATIENCE):
    status, _, body = ask_whole(port, method, path, body, timeout)
    return status, body


def ask_whole(port, method, path, body=None, timeout=PATIENCE):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        headers = {"Host": NAME, "Content-Type": "application/json"}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def answers(port, path):
    with contextlib.suppress(OSError, http.client.HTTPException):
        return ask(port, "GET", path)[0] == 200
    return False


class Service:
    """One of the two."""

    def __init__(self, port, database):
        self.port = port
        self.command = [
            os.environ["NIGHTSHIFT"],
            "serve",
            "--bind",
            f"127.0.0.1:{port}",
            "--drain-seconds",
            DRAIN,
            "--public-url",
            f"https://{NAME}{PATH}",
            "--database-url",
            database,
        ]
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stderr=subprocess.DEVNULL)
        wait_until("a service that is ready", lambda: answers(self.port, "/readyz"))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)


class Clients:
    """Programs that enqueue, one task after the other, and do nothing twice."""

    def __init__(self, port):
        self.port, self.lock = port, threading.Lock()
        self.stored, self.failed, self.stopped = 0, [], threading.Event()
        self.threads = [threading.Thread(target=self._enqueue) for _ in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def _enqueue(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        headers = {"Host": NAME, "Content-Type": "application/json"}
        while not self.stopped.is_set():
            why = None
            try:
                connection.request("POST", "/tasks", '{"task_path": "a.b"}', headers)
                answer = connection.getresponse()
                answer.read()
                # 200: the proxy has sent it twice, and the service knew it.
                if answer.status not in (200, 201):
                    why = str(answer.status)
            except (OSError, http.client.HTTPException) as error:
                why = repr(error)
                connection.close()
            with self.lock:
                self.stored += why is None
                if why:
                    self.failed.append(why)

    def done(self):
        with self.lock:
            return self.stored + len(self.failed)

    def end(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


def check_restart(port, services):
    clients = Clients(port)
    try:
        wait_until("the first requests", lambda: clients.done() > REQUESTS // 10)
        for service in services:
            service.stop()
            service.start()
        wait_until("enough requests", lambda: clients.done() >= REQUESTS, 10 * PATIENCE)
    finally:
        clients.end()
    assert not clients.failed, f"{len(clients.failed)} failed, such as {clients.failed[:3]}"
    status, body = ask(port, "GET", "/stats")
    assert status == 200, (status, body)
    waiting = sum(queue["depth"] for queue in json.loads(ask(port, "GET", "/queues")[1])["items"])
    assert waiting == clients.stored, f"{clients.stored} were answered, {waiting} are there"
    print(f"ok  {clients.stored} requests while both services were restarted, none failed")


def check_batch(port):
    task = {"task_path": "large", "args": ["x" * 1_000_000]}
    status, body = ask(port, "POST", "/tasks/batch", json.dumps({"tasks": [task] * 20}))
    assert status == 201, (status, body[:300])
    print("ok  a batch of 20 MiB")


def check_events(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", "/events", headers={"Host": NAME})
    stream = connection.getresponse()
    task = json.loads(ask(port, "POST", "/tasks", '{"task_path": "told"}')[1])["id"]
    for line in stream:
        if task.encode() in line:
            break
    else:
        raise AssertionError("the stream has ended")
    connection.close()
    print("ok  an event as it happens")


def check_path(port):
    status, headers, body = ask_whole(port, "POST", f"{PATH}/tasks", '{"task_path": "below"}')
    assert status == 201, (status, body)
    status, body = ask(port, "GET", headers["Location"])
    assert status == 200, (headers["Location"], status)
    assert json.loads(body)["task_path"] == "below", body
    status, headers, _ = ask_whole(port, "GET", f"{PATH}/docs")
    pages = urljoin(f"{PATH}/docs", headers["Location"])
    assert (status, pages) == (308, f"{PATH}/docs/"), (status, pages)
    assert ask(port, "GET", pages)[0] == 200
    status, problem = ask(port, "GET", f"{PATH}/nowhere")
    explained = json.loads(problem)["type"]
    assert status == 404, status
    assert ask(port, "GET", urldefrag(explained).url)[0] == 200, explained
    document = json.loads(ask(port, "GET", f"{PATH}/openapi.json")[1])
    servers = [urljoin(f"{PATH}/openapi.json", server["url"]) for server in document["servers"]]
    assert servers == [f"{PATH}/", f"https://{NAME}{PATH}"], servers
    print("ok  a task, the pages, an explanation and the document below a path")


def configuration(name, text, port, services):
    """The file as it is published, with addresses of this machine."""
    for number, service in enumerate(services, 8701):
        text, count = re.subn(rf"127\.0\.0\.1:{number}\b", f"127.0.0.1:{service.port}", text)
        assert count == 1, f"{name} has no 127.0.0.1:{number}"
    before, line = BELOW_PATH[name.partition(".")[0]]
    assert text.count(before) == 1, f"{name} has no {before!r}"
    text = text.replace(before, f"{line}\n    {before}")
    text, count = re.subn(r"(listen |bind :)8700", rf"\g<1>{port}", text)
    assert count == 1, f"{name} does not listen on 8700"
    return text.replace(f"listen {port}", f"listen 127.0.0.1:{port}").replace(
        f"bind :{port}", f"bind 127.0.0.1:{port}"
    )


@contextlib.contextmanager
def nginx(folder, port, services):
    text = configuration("nginx.conf", (CONFIGURATIONS / "nginx.conf").read_text(), port, services)
    places = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = folder / "nginx.conf"
    file.write_text(
        f"daemon off; pid {folder}/pid; error_log stderr;"
        f"events {{}} http {{ access_log off; {places}\n{text} }}"
    )
    with proxy([os.environ["NGINX"], "-p", folder, "-c", file, "-e", "stderr"], port):
        yield


@contextlib.contextmanager
def haproxy(folder, port, services):
    text = configuration(
        "haproxy.cfg", (CONFIGURATIONS / "haproxy.cfg").read_text(), port, services
    )
    file = folder / "haproxy.cfg"
    file.write_text(text)
    with proxy([os.environ["HAPROXY"], "-f", file], port):
        yield


@contextlib.contextmanager
def proxy(command, port):
    environment = {**os.environ, "LD_LIBRARY_PATH": os.environ["LIBRARIES"]}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_until("the proxy", lambda: answers(port, "/readyz"))
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


def main():
    for name, start in [("nginx", nginx), ("haproxy", haproxy)]:
        print(f"== {name}")
        server = os.environ["TEST_POSTGRES_URL"]
        database = f"nightshift_{name}"
        subprocess.run(["psql", "-q", server, "-c", f"CREATE DATABASE {database}"], check=True)
        url = server.removesuffix("postgres") + database
        services = [Service(free_port(), url) for _ in range(2)]
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            port = free_port()
            try:
                with start(Path(folder), port, services):
                    check_restart(port, services)
                    check_batch(port)
                    check_events(port)
                    check_path(port)
            finally:
                for service in services:
                    service.process.kill()
                    service.process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
