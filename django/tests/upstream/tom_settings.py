"""The TOM Toolkit's own settings, with this backend."""

from tom_base.settings import *  # noqa: F403
from tom_base.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "django_nightshift"]
TASKS = {"default": {"BACKEND": "django_nightshift.NightshiftBackend"}}
