"""Enqueues so many tasks one after the other, and prints how long each took, in seconds."""

import json
import sys
import time

import django

django.setup()

from tasks import noop  # noqa: E402

took, ids = [], []
for _ in range(int(sys.argv[1])):
    began = time.perf_counter()
    ids.append(noop.enqueue().id)
    took.append(time.perf_counter() - began)
print(json.dumps({"took": took, "ids": ids}))
