"""An HTTP executor that answers in every way there is, and writes down what it really did."""

import asyncio
import json
import random
import time

from http1 import NO_ANSWER, PASSES, read_message, request


class Executor:
    def __init__(self, journal, replica_ports):
        self.journal = journal
        self.replica_ports = replica_ports
        self.reports = set()
        self.calls = {}

    async def start(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader, writer):
        try:
            while True:
                _, body = await read_message(reader)
                message = json.loads(body)
                if message["type"] == "task.cancel":
                    answer = 204, b"", b""
                else:
                    answer = await self._execute(message["data"])
                if answer is None:
                    writer.transport.abort()
                    return
                status, headers, body = answer
                writer.write(
                    b"HTTP/1.1 %d x\r\n%scontent-length: %d\r\n\r\n%s"
                    % (status, headers, len(body), body)
                )
                await writer.drain()
        except NO_ANSWER:
            pass
        finally:
            writer.close()

    async def _execute(self, data):
        task, attempt = data["task_id"], data["attempt"]
        self.calls[task] = self.calls.get(task, 0) + 1
        rng = random.Random(f"{task} {self.calls[task]}")
        way = rng.random()
        if way < 0.05:
            return 503, b"retry-after: 1\r\n", b""
        self.journal.start(task, attempt)
        if way < 0.15:
            report = asyncio.ensure_future(self._report(data, rng.uniform(0.1, 3)))
            self.reports.add(report)
            report.add_done_callback(self.reports.discard)
            return 202, b"", b""
        await asyncio.sleep(rng.uniform(0, 0.3) if way < 0.9 else rng.uniform(1, 3))
        if way < 0.20:
            return None
        self.journal.end(task, attempt)
        if way < 0.28:
            return 500, b"", b'{"detail": "drawn"}'
        return 200, b"content-type: application/json\r\n", json.dumps({"attempt": attempt}).encode()

    async def _report(self, data, takes):
        """Heartbeats and the end, by whatever replica there is."""
        token, attempt = data["lease"]["token"], data["attempt"]
        until = time.monotonic() + takes
        while time.monotonic() < until:
            await asyncio.sleep(0.4)
            await self._tell(f"/leases/{token}/renew", {}, 1)
        self.journal.end(data["task_id"], attempt)
        await self._tell(f"/leases/{token}/finish", {"return_value": {"attempt": attempt}}, 20)

    async def _tell(self, path, body, tries):
        for _ in range(tries):
            try:
                status, _ = await request(random.choice(self.replica_ports), "POST", path, body, 3)
                if status not in PASSES:
                    return
            except NO_ANSWER:
                pass
            await asyncio.sleep(0.3)
