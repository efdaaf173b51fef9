#!/usr/bin/env python3
"""An HTTP executor for Nightshift in nothing but Python's standard library.

Usage: NIGHTSHIFT_SECRET=whsec_... executor.py [PORT]      (prints the port that it listens on)
"""
import base64, hashlib, hmac, json, os, sys, threading, time, traceback, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = base64.b64decode(os.environ["NIGHTSHIFT_SECRET"].removeprefix("whsec_"))
STOP = {}  # running attempts, by task id


def super_complicated_task(task, x, y=2):
    time.sleep(1)
    return x**y


def send_mail_to_co_investigators(task, addresses):
    time.sleep(0.02 * len(addresses))
    return {"sent": len(addresses)}


def reduce_broken_image(task, name):
    raise ValueError(f"{name}: no such image")


def stack_all_images(task):
    while not task["stop"].wait(0.1):  # until it is cancelled
        pass


def forced_photometry(task, target):
    """Too long for one request: reports by itself after the 202."""
    for step in range(1, 6):
        time.sleep(0.4)
        progress = {"fraction": step / 5, "message": f"{step} of 5 epochs of {target}"}
        if report(task, "renew", {"progress": progress})["cancel_requested"]:
            return report(task, "finish", {"cancelled": True})
    return report(task, "finish", {"return_value": [[60000.5, 17.25], [60001.5, 17.5]]})


TASKS = {"demo.tasks." + f.__name__: f for f in (super_complicated_task, reduce_broken_image,
         send_mail_to_co_investigators, stack_all_images, forced_photometry)}


def report(task, what, body):
    request = urllib.request.Request(f"{task['lease']['url']}/{what}", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request))


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.is_signed(body):
            return self.answer(401, {"detail": "the signature is wrong"})
        message = json.loads(body)
        task = message["data"]
        if message["type"] == "task.cancel":
            if task["task_id"] in STOP:
                STOP[task["task_id"]].set()
            return self.answer(204)
        function = TASKS.get(task["task_path"])
        if function is None:
            return self.answer(404, {"detail": f"no task has the path {task['task_path']}"})
        task["stop"] = STOP[task["task_id"]] = threading.Event()
        if function is forced_photometry:
            threading.Thread(target=function, args=(task, *task["args"])).start()
            return self.answer(202)
        try:
            self.answer(200, function(task, *task["args"], **task["kwargs"]))
        except ConnectionError:
            pass  # cancelled: nobody waits for the answer any more
        except Exception as error:
            self.answer(500, {"exception_class_path": f"builtins.{type(error).__name__}",
                              "message": str(error), "traceback": traceback.format_exc()})

    def is_signed(self, body):  # https://www.standardwebhooks.com
        sent_at, signatures = self.headers["webhook-timestamp"], self.headers["webhook-signature"]
        signed = f"{self.headers['webhook-id']}.{sent_at}.".encode() + body
        right = "v1," + base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
        return abs(time.time() - float(sent_at or 0)) < 300 and any(
            hmac.compare_digest(right, one) for one in (signatures or "").split())

    def answer(self, status, value=None):
        body = b"" if status in (202, 204) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
