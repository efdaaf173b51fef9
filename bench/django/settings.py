"""The site of the comparison; the backend comes from the environment."""

import os
from importlib.util import find_spec

FOLDER = os.environ["BENCH_FOLDER"]
IS_NIGHTSHIFT = os.environ["BENCH_BACKEND"] == "nightshift"
SECRET_KEY = "not a secret"
USE_TZ = True
INSTALLED_APPS = [
    *([] if find_spec("django.tasks") else ["django_tasks"]),
    "django_nightshift" if IS_NIGHTSHIFT else "django_tasks_db",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": f"{FOLDER}/site.db",
        # As one would set it for both: no "database is locked" before that many seconds.
        "OPTIONS": {"timeout": 20},
    }
}
TASKS = {
    "default": {
        "BACKEND": "django_nightshift.NightshiftBackend"
        if IS_NIGHTSHIFT
        else "django_tasks_db.DatabaseBackend"
    }
}
