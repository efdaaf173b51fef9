"""A site that does what a content management system does, with a database of its own."""

import os
from urllib.parse import urlsplit

from settings import *  # noqa: F403
from settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "pages.apps.PagesConfig"]
SITE = urlsplit(os.environ["TEST_SITE"])
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
        # Editor and worker write at the same time, and the machine may be busy.
        "OPTIONS": {"timeout": 60, "transaction_mode": "IMMEDIATE"},
    }
}
