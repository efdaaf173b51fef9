# ruff: noqa: E501 - the service's lines are as long as they are
"""Stands in for the ATLAS forced photometry service: throttles, takes a while, and has a result."""

import itertools
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

THROTTLED = 2
SECONDS_UNTIL_STARTED = 3
SECONDS_UNTIL_FINISHED = 7
RESULT = """\
###MJD          m        dm   uJy   duJy F err chi/N     RA       Dec        x        y     maj  min   phi  apfit mag5sig Sky   Obs
60290.123456   17.512  0.021  359     7  o  0  1.02  250.42348  36.46132  5120.1  5090.2   2.4  2.2   45.0  -0.45  19.9  20.6  01a60290o0123o
60292.234567   17.498  0.020  363     7  c  0  0.98  250.42348  36.46132  5122.4  5091.7   2.3  2.2   44.0  -0.44  19.8  20.5  02a60292o0456c
60294.345678   17.530  0.024  353     8  o  0  1.05  250.42348  36.46132  5119.8  5089.9   2.5  2.3   46.0  -0.46  19.7  20.4  01a60294o0789o
"""


class Atlas(ThreadingHTTPServer):
    """Listens on a free port of the loopback interface."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.requests = itertools.count()
        self.began = 0.0
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    server: Atlas

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if next(self.server.requests) < THROTTLED:
            detail = "Request was throttled. Expected available in 2 seconds."
            return self.answer(429, {"detail": detail})
        self.server.began = time.monotonic()
        return self.answer(201, {"url": f"{self.server.url}/queue/1/"})

    def do_GET(self):
        if self.path.startswith("/result/"):
            return self.send(200, "text/plain", RESULT)
        age = time.monotonic() - self.server.began
        return self.answer(
            200,
            {
                "timestamp": "2026-11-25T08:00:00Z",
                "starttimestamp": "2026-11-25T08:00:03Z" if age > SECONDS_UNTIL_STARTED else None,
                "finishtimestamp": "2026-11-25T08:00:07Z" if age > SECONDS_UNTIL_FINISHED else None,
                "result_url": f"{self.server.url}/result/job1.txt",
            },
        )

    def answer(self, status, value):
        self.send(status, "application/json", json.dumps(value))

    def send(self, status, content_type, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        print(f"  [atlas] {self.command} {self.path} {args[1]}", flush=True)
