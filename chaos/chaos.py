#!/usr/bin/env python3
"""Hurts three replicas, their database, workers and an HTTP executor for some minutes, and then
looks whether anything was lost, recorded twice, run twice without a lost lease, or got stuck.

Usage: chaos.py [--minutes N] [--seed N] [--per-minute FAULTS]
Needs a build of nightshift, python3, PostgreSQL, and faketime for the clock that is wrong.
"""

import argparse
import asyncio
import collections
import os
import pathlib
import random
import shutil
import sys
import tempfile
import time
import uuid

import checks
import schedule
from executor import Executor
from http1 import NO_ANSWER, PASSES, request
from journal import Journal
from world import World

ROOT = pathlib.Path(__file__).resolve().parent.parent
PRODUCERS = 4
# Between two tasks of one producer, in seconds.
PAUSE = 0.12
# How long everything may take to end once nobody hurts it any more.
PATIENCE = 180
PATHS = ["h.a", "h.b", "w.quick", "w.quick", "w.slow", "w.fails"]
BACKOFF = {"initial_seconds": 0.2, "factor": 1.5, "max_seconds": 2}


async def insist(ports, method, path, body, until=None):
    """Asks one replica after the other until one answers for good."""
    while until is None or time.monotonic() < until:
        try:
            status, answer = await request(random.choice(ports), method, path, body)
            if status not in PASSES:
                return status, answer
        except NO_ANSWER:
            pass
        await asyncio.sleep(0.2)
    return None, None


async def produce(world, journal, rng, until):
    """Enqueues tasks with ids of its own, so that saying it again is safe; cancels a few."""
    while time.monotonic() < until:
        await asyncio.sleep(PAUSE * rng.uniform(0.5, 1.5))
        body = {
            "id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            "task_path": rng.choice(PATHS),
            "backoff": BACKOFF,
            "max_attempts": 1 if rng.random() < 0.1 else 50,
        }
        cancels = rng.random() < 0.05
        status, answer = await insist(world.ports, "POST", "/tasks", body, until + 30)
        if status is None:
            return
        assert status in (200, 201), (status, answer)
        journal.acknowledge(body)
        if cancels:
            await asyncio.sleep(rng.uniform(0, 1))
            path = f"/tasks/{body['id']}/cancel"
            status, answer = await insist(world.ports, "POST", path, {}, until + 30)
            if status == 200 and answer["status"] == "CANCELLED":
                journal.cancelled.add(body["id"])


async def register(world, executor):
    common = {"lease_seconds": 2, "timeout_seconds": 60}
    for name, more in [
        (
            "http",
            {
                "kind": "http",
                "task_paths": ["h.*"],
                "concurrency": 20,
                "url": f"http://127.0.0.1:{executor.port}/",
                "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            },
        ),
        ("worker", {"kind": "worker", "task_paths": ["w.*"]}),
    ]:
        status, answer = await insist(world.ports, "PUT", f"/executors/{name}", {**common, **more})
        assert status in (200, 201), (status, answer)


async def hurt(world, faults, start):
    """Each at its time; one fault may last while others come, but two of one kind and target
    wait for each other. Returns those that could not be brought about, since a run without its
    faults proves nothing."""
    locks = collections.defaultdict(asyncio.Lock)
    running = []

    async def one(fault):
        group = fault.kind.split("_")[-1]
        one_of_all = fault.kind == "fail_over" or group == "database"
        async with locks["database" if one_of_all else (group, fault.target)]:
            await world.hurt(fault)

    for fault in faults:
        await asyncio.sleep(max(0.0, start + fault.at - time.monotonic()))
        world.mend()
        running.append(asyncio.ensure_future(one(fault)))
    ends = await asyncio.gather(*running, return_exceptions=True)
    return [
        f"{fault}: {end!r}"
        for fault, end in zip(faults, ends, strict=True)
        if isinstance(end, Exception)
    ]


async def settle(world):
    """Waits until everything has ended, and says how long that took."""
    start = time.monotonic()
    while time.monotonic() < start + PATIENCE:
        world.mend()
        try:
            left = await asyncio.to_thread(
                world.database.query, "SELECT count(*) FROM tasks WHERE stage < 3"
            )
            if left == [["0"]]:
                break
        except OSError:
            pass
        await asyncio.sleep(0.5)
    return time.monotonic() - start


async def run(options, folder):
    faults = schedule.draw(options.seed, options.minutes, options.per_minute)
    print(f"seed {options.seed}: {len(faults)} faults, schedule {schedule.digest(faults)}")
    file = folder / "journal"
    file.touch(mode=0o666)
    journal = Journal(file)
    world = World(folder, options.binary)
    try:
        await world.start(file)
        executor = Executor(journal, world.ports)
        await executor.start()
        await register(world, executor)
        start = time.monotonic()
        until = start + options.minutes * 60
        producers = [
            produce(world, journal, random.Random(f"{options.seed} {number}"), until)
            for number in range(PRODUCERS)
        ]
        failed, *_ = await asyncio.gather(hurt(world, faults, start), *producers)
        settled = await settle(world)
        tasks = checks.tasks(world.database)
    finally:
        await world.stop()
    broken = {**checks.broken_rules(journal, tasks), "not done": failed}
    report(faults, journal, tasks, broken, settled)
    return any(broken.values())


def report(faults, journal, tasks, broken, settled):
    kinds = collections.Counter(fault.kind for fault in faults)
    print("faults   ", ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())))
    statuses = collections.Counter(task["status"] for task in tasks.values())
    print(
        f"tasks     {len(journal.acknowledged)} acknowledged;",
        ", ".join(f"{status} {count}" for status, count in sorted(statuses.items())),
    )
    attempts = sum(task["attempts"] for task in tasks.values())
    lost = sum(kind in checks.LOST for task in tasks.values() for _, kind in task["errors"])
    print(
        f"attempts  {attempts}, of these {lost} lost;",
        f"all ended {settled:.1f} s after the last fault",
    )
    for rule, cases in broken.items():
        print(f"{rule:15} {len(cases)}")
        for case in cases[:10]:
            print("   ", case)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-minute", type=float, default=24)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--binary", default=target / "debug/nightshift")
    parser.add_argument("--keep", action="store_true", help="keep journal and logs")
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="chaos-"))
    broken = True
    try:
        broken = asyncio.run(run(options, folder))
    finally:
        if options.keep or broken:
            print("journal and logs are in", folder)
        else:
            shutil.rmtree(folder)
    sys.exit(broken)


if __name__ == "__main__":
    main()
