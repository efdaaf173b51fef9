"""What Django's own tests of tasks, and those of django-tasks-db, expect of a site."""

from importlib.util import find_spec

SECRET_KEY = "not a secret"
USE_TZ = True
INSTALLED_APPS = [*([] if find_spec("django.tasks") else ["django_tasks"]), "django_nightshift"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
TASKS = {"default": {"BACKEND": "django_nightshift.NightshiftBackend"}}
