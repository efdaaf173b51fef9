"""Where `call_command` finds a worker's lines."""

import os
import subprocess
import sys

from django_nightshift.compat import STATUS

from conftest import TESTS
from site_app import tasks

PROGRAM = """
import io, sys
import django
django.setup()
from django.core.management import call_command
lines = io.StringIO()
call_command("nightshift_worker", "--batch", "--no-startup-delay", verbosity=3, stdout=lines)
open(sys.argv[1], "w").write(lines.getvalue())
"""


def test_the_lines_of_processes_are_where_the_others_are(site, tmp_path):
    ok, bad = tasks.noop.enqueue(), tasks.fail.enqueue()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "lines")],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "NIGHTSHIFT_SERVER": site.url, "DJANGO_SETTINGS_MODULE": "settings"},
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    said = (tmp_path / "lines").read_text().splitlines()
    path = "path=site_app.tasks"
    for line in (
        f"Task id={ok.id} {path}.noop state=RUNNING",
        f"Task id={ok.id} {path}.noop state={STATUS['SUCCESSFUL']}",
        f"Task id={bad.id} {path}.fail state=FAILED",
        "ValueError: This Task failed due to ValueError",
    ):
        assert said.count(line) == 1, said
    assert said[-1].startswith("No more tasks to run")
