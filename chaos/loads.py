"""Loads that ask a service for more memory than it has, one for each way; each counts its ends."""

import collections
import http.client
import http.server
import json
import select
import socket
import threading
import time

MIB = 1 << 20
ARGS = '["' + "x" * (4 * MIB - 1_000) + '"]'
LABELS = {f"label-{n:02}" + "k" * 50: "v" * 255 for n in range(32)}
LEASED, CALLED, LABELLED = 150, 100, 1_000
READERS, PAGES, BATCHES = 400, 40, 6
# As long as it takes a call to be answered.
CALL_SECONDS = 3


class Load:
    def __init__(self, port):
        self.port = port
        self.counts = collections.Counter()
        self.lock = threading.Lock()

    def count(self, what, number=1):
        with self.lock:
            self.counts[what] += number

    def said(self):
        return ", ".join(f"{what} {number}" for what, number in sorted(self.counts.items()))

    def request(self, method, path, body=None, timeout=120):
        """Status and text; a body that is text goes as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            text = body if isinstance(body, (str, bytes, type(None))) else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def insist(self, method, path, body=None):
        """The same until there is room for it."""
        while True:
            status, text = self.request(method, path, body)
            if status != 503:
                assert status < 300, text
                return json.loads(text)
            self.count("told to come again")
            time.sleep(0.5)

    def enqueue(self, path, **more):
        rest = json.dumps({"task_path": path, "max_attempts": 5, **more})
        return self.insist("POST", "/tasks", f'{rest[:-1]},"args":{ARGS}}}')["id"]

    def prepare(self, parts):
        for part in parts:
            part.prepare(self)

    def attempts(self):
        """Attempts beyond the first of each task, and tasks that have ended well."""
        burnt, ended, cursor = 0, 0, ""
        while True:
            page = self.insist("GET", f"/tasks?limit=100{cursor}")
            for task in page["items"]:
                burnt += max(0, task["attempts"] - 1) + (task["status"] == "FAILED")
                ended += task["status"] == "SUCCESSFUL"
            if not page["next_cursor"]:
                return burnt, ended
            cursor = f"&cursor={page['next_cursor']}"


class Part:
    """What it needs, and what runs at once until its time is over."""

    def __init__(self, prepare, runs):
        self.prepare, self.runs = prepare, runs


def prepare_leases(load):
    load.insist(
        "PUT",
        "/executors/worked",
        {"kind": "worker", "task_paths": ["worked.*"], "lease_seconds": 60},
    )
    for _ in range(LEASED):
        load.enqueue("worked.large")


def lease(load, until):
    """A worker that asks for all there is, does it, and brings more."""
    while time.monotonic() < until:
        status, text = load.request(
            "POST",
            "/executors/worked/leases",
            {"worker_id": "stress", "max_tasks": 1_000, "wait_seconds": 1},
        )
        if status == 503:
            load.count("leases refused")
            time.sleep(0.2)
            continue
        leases = json.loads(text)["leases"]
        load.count("leased", len(leases))
        for each in leases:
            load.insist("POST", f"/leases/{each['token']}/finish", {"return_value": None})
        for _ in leases:
            if time.monotonic() < until:
                load.enqueue("worked.large")


def prepare_record(load):
    load.record = load.enqueue("stays.large")


def hold(load, until, path, count):
    """Asks on many connections at once and reads nothing; those that are closed ask anew."""
    waiting = {}
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    while time.monotonic() < until:
        while len(waiting) < count:
            asking = socket.create_connection(("127.0.0.1", load.port))
            asking.sendall(request)
            waiting[asking] = time.monotonic()
            load.count("unread answers asked for")
        time.sleep(0.2)
        # A connection that is refused is read, and asks again; so does one that was let go.
        heard, _, _ = select.select(list(waiting)[:1_000], [], [], 0)
        for asking in heard:
            try:
                start = asking.recv(12, socket.MSG_PEEK)
            except OSError:
                start = b""
            if start[9:] == b"200" and time.monotonic() - waiting[asking] < 45:
                continue
            load.count("unread answers refused" if start[9:] == b"503" else "unread answers ended")
            waiting.pop(asking)
            asking.close()
    for asking in waiting:
        asking.close()


def read_unread(load, until):
    hold(load, until, f"/tasks/{load.record}", READERS)


def prepare_pages(load):
    tasks = [{"task_path": "stays.labelled", "labels": LABELS}] * LABELLED
    load.insist("POST", "/tasks/batch", {"tasks": tasks})


def list_unread(load, until):
    hold(load, until, "/tasks?limit=1000", PAGES)


def prepare_calls(load):
    class Executor(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            left = int(self.headers["Content-Length"])
            while left:
                left -= len(self.rfile.read(min(left, MIB)))
            load.count("called")
            time.sleep(CALL_SECONDS)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 512
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Executor)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    executor = {
        "kind": "http",
        "task_paths": ["called.*"],
        "concurrency": CALLED,
        "url": url,
        "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    }
    load.insist("PUT", "/executors/called", {**executor, "paused": True})
    for _ in range(CALLED):
        load.enqueue("called.large")
    load.insist("PUT", "/executors/called", executor)


def call(load, until):
    """Brings more as fast as they are done."""
    brought = CALLED
    while time.monotonic() < until:
        if brought - load.counts["called"] < CALLED:
            load.enqueue("called.large")
            brought += 1
        else:
            time.sleep(0.05)
    # The running calls end within their time.
    time.sleep(2 * CALL_SECONDS)


def send_labels(load, until):
    body = (
        '{"tasks":[{"task_path":"a","labels":{'
        + ",".join(f'"{n}":""' for n in range(5_000_000))
        + "}}]}"
    )
    while time.monotonic() < until:
        try:
            status, _ = load.request("POST", "/tasks/batch", body)
            load.count(f"batches of labels: {status}")
        except OSError:
            # Refused before it was all sent.
            load.count("batches of labels: cut off")


LEASES = Part(prepare_leases, [lease])
RECORDS = Part(prepare_record, [read_unread])
LISTS = Part(prepare_pages, [list_unread])
CALLS = Part(prepare_calls, [call])
MAPS = Part(lambda load: None, [send_labels] * BATCHES)
PARTS = {
    "leases": [LEASES],
    "records": [RECORDS],
    "lists": [LISTS],
    "calls": [CALLS],
    "labels": [MAPS],
    "mix": [LEASES, RECORDS, LISTS, CALLS, MAPS],
}
