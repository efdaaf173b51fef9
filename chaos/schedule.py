"""Which faults come when: drawn from a seed before anything starts, so that the same seed gives
the same faults."""

import dataclasses
import hashlib
import random

REPLICAS = 3
WORKERS = 4
# Longer than a lease, which is 2 s here.
STOPPED = (2.5, 5.0)
FAULTS = {
    "kill_replica": 5,
    "stop_replica": 4,
    "kill_worker": 5,
    "stop_worker": 4,
    "cut": 4,
    "delay": 3,
    "black_hole": 3,
    "end_sessions": 2,
    "restart_database": 1,
    "kill_database": 2,
    "terminate_replica": 2,
    "terminate_worker": 2,
    "block_log": 2,
    "close_log": 2,
    "fail_over": 1,
}


@dataclasses.dataclass(frozen=True)
class Fault:
    at: float
    kind: str
    target: int
    lasts: float

    def __str__(self):
        return f"{self.at:7.1f} s  {self.kind} {self.target} for {self.lasts:.1f} s"


def draw(seed, minutes, per_minute):
    """Faults in the order of their times; a new one may come while others last."""
    rng = random.Random(seed)
    count = round(minutes * per_minute)
    times = sorted(rng.uniform(3, minutes * 60 - 2) for _ in range(count))
    faults = []
    for at in times:
        kind = rng.choices(list(FAULTS), FAULTS.values())[0]
        target = rng.randrange(WORKERS if kind.endswith("worker") else REPLICAS)
        lasts = rng.uniform(*STOPPED) if kind.startswith("stop") else rng.uniform(0.2, 3.0)
        faults.append(Fault(round(at, 3), kind, target, round(lasts, 3)))
    return faults


def digest(faults):
    return hashlib.sha256("\n".join(map(str, faults)).encode()).hexdigest()[:12]
