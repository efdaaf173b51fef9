"""A TCP proxy between a replica and the database that breaks what goes through."""

import asyncio
import contextlib


class Proxy:
    def __init__(self, target_port):
        self.target_port = target_port
        self.passing = asyncio.Event()
        self.passing.set()
        self.closed = 0
        self.delay = 0.0
        self.writers = set()

    async def start(self):
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    def close(self):
        """Connections stay, and nothing goes through until all who closed it have opened it."""
        self.closed += 1
        self.passing.clear()

    def open(self):
        assert self.closed, "it was open: from here on it would stay closed"
        self.closed -= 1
        if not self.closed:
            self.passing.set()

    def cut(self):
        for writer in list(self.writers):
            writer.transport.abort()

    async def _accept(self, reader, writer):
        try:
            there = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()
            return
        self.writers |= {writer, there[1]}
        pumps = [
            asyncio.ensure_future(self._pump(reader, there[1])),
            asyncio.ensure_future(self._pump(there[0], writer)),
        ]
        # A cancel is the end of everything, also of both directions.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        for end in (writer, there[1]):
            self.writers.discard(end)
            end.close()

    async def _pump(self, reader, writer):
        try:
            while chunk := await reader.read(65536):
                await self.passing.wait()
                if self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
