"""A site that enqueues in `post_save`, within the transaction of the editor's request.

As Wagtail does: tasks are sent with the id of a row, and read what the row says.
"""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from conftest import SOON, TESTS, database_of

PAGES = 20


@pytest.fixture(params=["sqlite", "postgres"])
def pages(request, tmp_path, site):
    """The environment of the site, with its tables made."""
    if request.param == "postgres":
        if not find_spec("psycopg"):
            pytest.skip("there is no driver for PostgreSQL")
        url, drop = database_of("postgres", tmp_path)
    else:
        url, drop = f"sqlite://{tmp_path / 'pages.db'}", lambda: None
    environment = {
        "DJANGO_SETTINGS_MODULE": "pages.settings",
        "NIGHTSHIFT_SERVER": site.url,
        "TEST_SITE": url,
    }
    manage(environment, "migrate", "--run-syncdb", "-v0")
    yield environment
    drop()


def manage(environment, *arguments):
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=TESTS,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FOUND = """
from pages.models import Entry
print(sorted(Entry.objects.values_list("title", flat=True)))
"""


def test_each_page_is_found_by_the_title_that_it_was_given(site, pages, start_worker):
    start_worker(**pages)
    for word in ("new", "again"):
        manage(pages, "edit_pages", word, str(PAGES))
        for task in site.get("/tasks", limit=1000)["items"]:
            ended = site.get(f"/tasks/{task['id']}", wait=SOON)
            assert ended["status"] == "SUCCESSFUL", ended
        found = manage(pages, "shell", "--verbosity", "0", "-c", FOUND)
        assert found.strip() == str(sorted(f"{word} {n}" for n in range(1, PAGES + 1)))
    assert len(site.get("/tasks", limit=1000)["items"]) == 2 * PAGES
