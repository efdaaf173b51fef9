"""For the tests of a site: backends that need no service, and know all of Nightshift's options.

TASKS = {"default": {"BACKEND": "django_nightshift.testing.ImmediateBackend"}}
"""

from .backends import DummyBackend, ImmediateBackend
from .run import run_tasks

__all__ = ["DummyBackend", "ImmediateBackend", "run_tasks"]
