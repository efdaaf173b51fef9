"""What was acknowledged, and what executors really did."""

import time


class Journal:
    def __init__(self, file):
        self.file = file
        self.acknowledged = {}  # id -> request
        self.cancelled = set()  # ids that somebody was told are CANCELLED
        self.out = open(file, "a", buffering=1)

    def acknowledge(self, request):
        self.acknowledged[request["id"]] = request

    def start(self, task, attempt):
        self.out.write(f"start {task} {attempt} {time.time_ns()}\n")

    def end(self, task, attempt):
        self.out.write(f"end {task} {attempt} {time.time_ns()}\n")

    def runs(self):
        """task -> attempt -> [(start, end or None)], workers' scripts among them."""
        runs = {}
        with open(self.file) as lines:
            for line in lines:
                what, task, attempt, at = line.split()
                of_attempt = runs.setdefault(task, {}).setdefault(int(attempt), [])
                if what == "start":
                    of_attempt.append([int(at), None])
                elif of_attempt:
                    of_attempt[-1][1] = int(at)
        return runs
