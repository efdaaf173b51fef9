"""The least of HTTP/1.1 that a client and an executor need, one request a connection."""

import asyncio
import json


async def read_message(reader):
    """The first line, and the body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(":", 1) for line in head[1:] if ":" in line)
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return head[0], body


async def request(port, method, path, body=None, timeout=10):
    """Status and JSON; OSError, EOFError or TimeoutError where there is no answer."""
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            data = b"" if body is None else json.dumps(body).encode()
            writer.write(
                f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
                f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode()
                + data
            )
            await writer.drain()
            line, body = await read_message(reader)
        finally:
            writer.close()
    return int(line.split()[1]), json.loads(body) if body else None


NO_ANSWER = (OSError, EOFError, TimeoutError, asyncio.IncompleteReadError)

# A replica that was paused in the middle of a request has not taken it in time.
PASSES = {408, 500, 502, 503, 504}
