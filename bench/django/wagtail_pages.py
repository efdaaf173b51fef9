#!/usr/bin/env python
"""Creates and retitles pages in an untouched Wagtail, and looks whether the search finds them all.

Wagtail enqueues in `post_save`, within the transaction of the edit. By hand, with Python 3.12 or
later, from this folder:

    python -m venv /tmp/wagtail && /tmp/wagtail/bin/pip install --requirement wagtail.txt
    PYTHONPATH=../../django NIGHTSHIFT=../../target/debug/nightshift \\
        ../../scripts/postgres.sh /tmp/wagtail/bin/python wagtail_pages.py

Without scripts/postgres.sh, the site's database is SQLite only. `--at-once` shows what becomes of
it when tasks do not wait for the commit.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGES = 20
WORKERS = 2
SOON = 60


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--at-once", action="store_true", help="do not wait for the commit")
    options = parser.parse_args()
    postgres = os.environ.get("TEST_POSTGRES_URL")
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for site in filter(None, (f"sqlite://{folder}/site.db", postgres)):
            os.environ["BENCH_SITE"] = site
            failed |= not run(Path(folder), site.partition(":")[0], options.at_once)
    sys.exit(1 if failed else 0)


def run(folder, name, at_once):
    """Whether all pages were found after each edit; says how many were."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        bind = f"127.0.0.1:{listener.getsockname()[1]}"
    os.environ |= {
        "NIGHTSHIFT_SERVER": f"http://{bind}",
        "BENCH_AT_ONCE": "1" if at_once else "",
        "DJANGO_SETTINGS_MODULE": "wagtail_settings",
        "PYTHONPATH": os.pathsep.join([str(HERE), *map(os.path.abspath, sys.path[1:])]),
    }
    database = f"sqlite://{folder}/{name}-tasks.db"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    service = subprocess.Popen(
        [os.environ["NIGHTSHIFT"], "serve", "--bind", bind, "--database-url", database], **quiet
    )
    workers = []
    try:
        until(lambda: is_ready(bind))
        edit(["-m", "django", "migrate", "-v0"])
        for _ in range(WORKERS):
            command = [sys.executable, "-m", "django", "nightshift_worker", "--no-startup-delay"]
            workers.append(subprocess.Popen(command, **quiet))
        outcome = [edit([__file__, word], inside=True) for word in ("galaxy", "nebula")]
    finally:
        for process in (*workers, service):
            process.send_signal(signal.SIGTERM)
            process.wait(SOON)
    for word, text in zip(("created", "retitled"), outcome, strict=True):
        print(f"{name}: {PAGES} pages {word}: {text}", flush=True)
    return all(text.startswith(f"{PAGES} found, 0 tasks failed") for text in outcome)


def edit(command, inside=False):
    environment = {**os.environ, "BENCH_INSIDE": "1" if inside else ""}
    done = subprocess.run(
        [sys.executable, *command], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip()


def edit_pages(word):
    """In a process of its own: creates the pages, or gives them titles with another word."""
    import django

    django.setup()
    from django.db import transaction
    from django_nightshift.compat import task_enqueued
    from wagtail.models import Page

    sent = []
    task_enqueued.connect(lambda task_result, **_: sent.append(task_result), weak=False)
    root = Page.objects.get(depth=1)
    for number in range(PAGES):
        with transaction.atomic():
            page = Page.objects.filter(slug=f"page-{number}").first()
            if page is None:
                page = root.add_child(instance=Page(title=word, slug=f"page-{number}"))
            page.title = f"{word} title"
            page.save_revision().publish()
    ended = [result.wait(SOON) and result for result in sent]
    failed = sum(not result or result.status != "SUCCESSFUL" for result in ended)
    found = sum(page.slug.startswith("page-") for page in Page.objects.search(word))
    print(f"{found} found, {failed} tasks failed of {len(sent)}")


def is_ready(bind):
    try:
        with urllib.request.urlopen(f"http://{bind}/readyz"):
            return True
    except OSError:
        return False


def until(check):
    end = time.monotonic() + SOON
    while not check():
        assert time.monotonic() < end, f"not within {SOON} s"
        time.sleep(0.05)


if __name__ == "__main__":
    if os.environ.get("BENCH_INSIDE"):
        edit_pages(sys.argv[1])
    else:
        main()
