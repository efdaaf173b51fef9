#!/usr/bin/env python3
"""Takes the primary of a service away in each way there is (stopped, killed, behind a black
hole), lets the synchronous standby take over, and says how long writes stood still and what was
lost.

Usage: failover.py [--binary FILE]
Needs a build of nightshift, python3 and PostgreSQL. Exit status 1: writes stood still for more than
30 s, or something that was acknowledged is missing.
"""

import argparse
import asyncio
import os
import pathlib
import shutil
import sys
import tempfile
import time
import uuid

from http1 import NO_ANSWER, request
from schedule import Fault
from world import LOSSES, World

ROOT = pathlib.Path(__file__).resolve().parent.parent
# How long writes may stand still after the standby has taken over, in seconds.
STILL_MAX = 30
WRITERS = 4
PAUSE = 0.05
# Before and after a loss, in seconds.
CALM = 3


class Writes:
    """What was acknowledged, and when."""

    def __init__(self, port):
        self.port, self.acknowledged, self.over = port, {}, False

    async def go_on(self):
        while not self.over:
            body = {"id": str(uuid.uuid4()), "task_path": "nobody.does"}
            while not self.over:
                try:
                    status, _ = await request(self.port, "POST", "/tasks", body, 35)
                except NO_ANSWER:
                    status = 0
                if status in (200, 201):
                    self.acknowledged[body["id"]] = time.monotonic()
                    break
                await asyncio.sleep(0.2)
            await asyncio.sleep(PAUSE)

    async def flow(self):
        """Returns once something is acknowledged from now on."""
        now = time.monotonic()
        while self.first_after(now) is None:
            await asyncio.sleep(0.1)

    def first_after(self, moment):
        return min((at for at in self.acknowledged.values() if at > moment), default=None)


async def lose(world, writes, number):
    """The longest that writes stood still, counted from when the standby had taken over."""
    fault = Fault(at=0, kind="fail_over", target=number, lasts=1)
    world.failed_over = None
    failing = asyncio.ensure_future(world.hurt(fault))
    while world.failed_over is None:
        if failing.done():
            failing.result()
        await asyncio.sleep(0.05)
    while (first := writes.first_after(world.failed_over)) is None:
        if time.monotonic() > world.failed_over + 2 * STILL_MAX:
            break
        await asyncio.sleep(0.05)
    await failing
    await asyncio.sleep(CALM)
    return None if first is None else first - world.failed_over


async def run(binary, folder):
    world = World(folder, binary, replicas=1, workers=0, lost=2 * STILL_MAX)
    broken = False
    try:
        await world.start(None)
        writes = Writes(world.ports[0])
        writers = [asyncio.ensure_future(writes.go_on()) for _ in range(WRITERS)]
        for number, loss in enumerate(LOSSES):
            await writes.flow()
            await asyncio.sleep(CALM)
            still = await lose(world, writes, number)
            acknowledged = set(writes.acknowledged)
            rows = await asyncio.to_thread(
                world.database.query, "SELECT encode(id, 'hex') FROM tasks"
            )
            there = {str(uuid.UUID(row[0])) for row in rows}
            missing = acknowledged - there
            broken |= still is None or still > STILL_MAX or bool(missing)
            took = "did not go on" if still is None else f"went on {still:.1f} s after the standby"
            print(
                f"{loss:10} writes {took}; {len(acknowledged)} acknowledged,"
                f" {len(missing)} missing",
                flush=True,
            )
        writes.over = True
        await asyncio.gather(*writers)
    finally:
        await world.stop()
    return broken


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--binary", default=target / "debug/nightshift")
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="failover-"))
    broken = True
    try:
        broken = asyncio.run(run(options.binary, folder))
    finally:
        if broken:
            print("logs are in", folder)
        else:
            shutil.rmtree(folder)
    sys.exit(broken)


if __name__ == "__main__":
    main()
