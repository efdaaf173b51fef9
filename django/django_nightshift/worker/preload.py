"""Imported by the process that worker processes are forked from: Django, once for all of them."""

import json
import os
import signal
import sys
from contextlib import suppress

import django

from . import PATH_VARIABLE

# This process is started without the worker's.
sys.path[:] = json.loads(os.environ[PATH_VARIABLE])
# Each worker process tries for itself, and says why it cannot.
with suppress(Exception):
    django.setup()
# A signal to all processes of a service means the worker; this one is needed to the end, and ends
# with it.
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
    signal.signal(number, lambda *_: None)
