"""An HTTP executor for Nightshift in Python's standard library, for files like check.py. A task is
called with its attempt, which is set when it is to stop, and its arguments."""

import base64
import contextlib
import hmac
import json
import os
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, wait
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

KEY = base64.b64decode(os.environ["NIGHTSHIFT_SECRET"].removeprefix("whsec_"))
TASKS, LATER = {}, {}  # by their paths; those in LATER go on after the answer 202
RUNNING, POOL = {}, ThreadPoolExecutor(100)  # attempts, by the tokens of their leases


class Attempt(threading.Event):
    def __init__(self, task, data):
        super().__init__()
        self.task, self.data, self.lost = task, data, False
        RUNNING[data["lease"]["token"]] = self

    def run(self):
        try:
            value = self.task(self, *self.data["args"], **self.data["kwargs"])
            return (409, {"message": "cancelled"}) if self.is_set() else (200, value)
        except Exception as error:  # 500: tried again; 422: fails for good; 503: was not begun
            return getattr(error, "status", 500), {
                "exception_class_path": type(error).__name__,
                "message": str(error),
                "traceback": traceback.format_exc(),
            }
        finally:
            RUNNING.pop(self.data["lease"]["token"], None)

    def run_later(self):
        work = POOL.submit(self.run)
        while wait([work], timeout=1).not_done:
            self.report("renew", {})
        status, value = work.result()
        end = {"return_value": value} if status == 200 else {"error": value}
        self.report("finish", {"cancelled": True} if self.is_set() else end)

    def report(self, what, body):
        request = Request(
            f"{self.data['lease']['url']}/{what}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            if not self.lost and json.load(urlopen(request, timeout=10)).get("cancel_requested"):
                self.set()
        except OSError as error:  # 409: the attempt is over; else the next report may get through
            self.lost = getattr(error, "code", None) == 409 and not self.set()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        """Says nothing of each call."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        message = json.loads(body) if self.is_signed(body) else None
        status, value = answer(message) if message else (401, None)
        body = b"" if status in (202, 204) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", "5")  # means something with 503 only
        if message:  # by which the service knows the answer for this executor's
            self.send_header("nightshift-task-id", message["data"]["task_id"])
        with contextlib.suppress(ConnectionError):  # nobody waits any more for what is cancelled
            self.end_headers()
            self.wfile.write(body)

    def is_signed(self, body):  # https://www.standardwebhooks.com
        at = self.headers.get("webhook-timestamp", "0")
        right = hmac.digest(KEY, f"{self.headers['webhook-id']}.{at}.".encode() + body, "sha256")
        right = f"v1,{base64.b64encode(right).decode()}"
        return abs(time.time() - float(at)) < 300 and any(
            hmac.compare_digest(right, one)
            for one in self.headers.get("webhook-signature", "").split()
        )


def answer(message):  # a status and a value
    data = message["data"]
    running, path = RUNNING.get(data["lease"]["token"]), data.get("task_path")
    if message["type"] == "task.cancel":
        return 204, running and running.set()
    if path in LATER:  # once, even if the message comes twice
        return 202, running or threading.Thread(target=Attempt(LATER[path], data).run_later).start()
    if path in TASKS:
        return Attempt(TASKS[path], data).run()
    return 404, {"message": f"there is no task {path}"}


def serve(port, address="127.0.0.1"):
    server = ThreadingHTTPServer((address, int(port)), Handler)
    print(server.server_port, flush=True)  # another than 0
    server.serve_forever()
