"""Django's background tasks, run by Nightshift.

TASKS = {"default": {"BACKEND": "django_nightshift.NightshiftBackend"}}
"""

from .backend import NightshiftBackend
from .context import is_cancelled, set_progress

__all__ = ["NightshiftBackend", "is_cancelled", "set_progress"]
