#!/usr/bin/env python3
"""Serves what `nightshift executor check` needs. Usage: NIGHTSHIFT_SECRET=... check.py [PORT]"""

import sys

from executor import LATER, TASKS, serve


class Refusal(Exception):
    status = 422


class Busy(Exception):
    status = 503


def fail(error):
    raise error


TASKS["check.echo"] = lambda attempt, *args, **kwargs: [args, kwargs]
TASKS["check.null"] = lambda attempt: None
TASKS["check.fail"] = lambda attempt, message: fail(ValueError(message))
TASKS["check.reject"] = lambda attempt, message: fail(Refusal(message))
TASKS["check.busy"] = lambda attempt: fail(Busy())
TASKS["check.slow"] = LATER["check.later"] = lambda attempt, seconds: (
    attempt.wait(seconds) or seconds
)
serve(*sys.argv[1:] or [0])
