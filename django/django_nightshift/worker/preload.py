"""Imported by the process that worker processes are forked from: Django, once for all of them."""

import json
import os
import sys
from contextlib import suppress

import django

from . import PATH_VARIABLE

# This process is started without the worker's.
sys.path[:] = json.loads(os.environ[PATH_VARIABLE])
# Each worker process tries for itself, and says why it cannot.
with suppress(Exception):
    django.setup()
