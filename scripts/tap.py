"""Passes connections on to a server on this machine, and writes down what the clients say.

Usage: tap.py PORT SERVER_PORT FILE
"""

import asyncio
import contextlib
import sys


async def pass_on(reader, writer, note=lambda _: None):
    with contextlib.suppress(ConnectionError):
        while said := await reader.read(65536):
            note(said)
            writer.write(said)
            await writer.drain()
    # Whichever side hangs up, the other one is to notice.
    writer.close()


async def main(port, server_port, file):
    async def connect(client, to_client):
        server, to_server = await asyncio.open_connection("127.0.0.1", server_port)
        await asyncio.gather(pass_on(client, to_server, file.write), pass_on(server, to_client))

    listener = await asyncio.start_server(connect, "127.0.0.1", port)
    await listener.serve_forever()


# Without a buffer: what was said is in the file before the server hears it.
with open(sys.argv[3], "wb", buffering=0) as file:
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), file))
