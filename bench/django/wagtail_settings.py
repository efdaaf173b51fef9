"""A plain Wagtail whose tasks run in Nightshift, with its default settings."""

import os
from urllib.parse import urlsplit

SECRET_KEY = "not a secret"
USE_TZ = True
ROOT_URLCONF = "wagtail.admin.urls"
STATIC_URL = "static/"
WAGTAIL_SITE_NAME = "pages"
WAGTAILADMIN_BASE_URL = "http://127.0.0.1"
WAGTAILSEARCH_BACKENDS = {"default": {"BACKEND": "wagtail.search.backends.database"}}
INSTALLED_APPS = [
    "wagtail.users",
    "wagtail.documents",
    "wagtail.images",
    "wagtail.search",
    "wagtail.admin",
    "wagtail",
    "modelcluster",
    "taggit",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_nightshift",
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SITE = urlsplit(os.environ["BENCH_SITE"])
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": SITE.path.lstrip("/"),
        "USER": SITE.username,
        "HOST": SITE.hostname,
        "PORT": SITE.port,
    }
    if SITE.scheme == "postgres"
    else {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": SITE.path,
        # As Django's documentation advises where several processes write.
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL",
        },
    }
}
TASKS = {"default": {"BACKEND": "django_nightshift.NightshiftBackend"}}
if os.environ.get("BENCH_AT_ONCE"):
    TASKS["default"]["OPTIONS"] = {"enqueue_on_commit": False}
