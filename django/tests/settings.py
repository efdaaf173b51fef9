"""A small site, set by the environment as far as tests differ."""

import os
from importlib.util import find_spec

# Code of the site that a test changes.
if "TEST_IMPORT" in os.environ:
    __import__(os.environ["TEST_IMPORT"])

SECRET_KEY = "not a secret"
DEBUG = bool(os.environ.get("TEST_DEBUG"))
ALLOWED_HOSTS = ["*"]
USE_TZ = True
STATIC_URL = "static/"
ROOT_URLCONF = "site_app.urls"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    *([] if find_spec("django.tasks") else ["django_tasks"]),
    "django_nightshift",
    "site_app.apps.SiteConfig",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("TEST_SITE_DATABASE", ":memory:"),
    },
    "other": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PUSH_SECRET = os.environ.get("NIGHTSHIFT_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
TASKS = {
    "default": {
        "BACKEND": "django_nightshift.NightshiftBackend",
        "QUEUES": ["default", "slow", "other"],
        "OPTIONS": {"secrets": [PUSH_SECRET]},
    },
    "unchecked": {"BACKEND": "django_nightshift.NightshiftBackend", "QUEUES": []},
    "saguaro": {
        "BACKEND": "django_nightshift.NightshiftBackend",
        "OPTIONS": {"namespace": "saguaro", "executor": "saguaro"},
    },
}
