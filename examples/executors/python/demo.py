#!/usr/bin/env python3
"""Serves the tasks of `nightshift demo`.

Usage: NIGHTSHIFT_SECRET=whsec_... demo.py [PORT [ADDRESS]]
"""

import sys
import time

from executor import LATER, TASKS, serve


def super_complicated_task(attempt, x, y=2):
    time.sleep(1)
    return x**y


def send_mail_to_co_investigators(attempt, addresses):
    time.sleep(0.02 * len(addresses))
    return {"sent": len(addresses)}


def reduce_broken_image(attempt, name):
    raise ValueError(f"{name}: no such image")


def stack_all_images(attempt):
    while not attempt.wait(0.1):  # until it is cancelled
        pass


def forced_photometry(attempt, target):
    for step in range(1, 6):
        if attempt.wait(0.4):
            return None
        message = f"{step} of 5 epochs of {target}"
        attempt.report("renew", {"progress": {"fraction": step / 5, "message": message}})
    return [[60000.5, 17.25], [60001.5, 17.5]]


for task in (
    super_complicated_task,
    send_mail_to_co_investigators,
    reduce_broken_image,
    stack_all_images,
):
    TASKS[f"demo.tasks.{task.__name__}"] = task
LATER["demo.tasks.forced_photometry"] = forced_photometry
serve(*sys.argv[1:] or [0])
