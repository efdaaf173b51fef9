"""The TOM Toolkit's own tests, with its ImmediateBackend and with this one."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

from conftest import TESTS

APPS = [
    f"tom_{name}"
    for name in (
        "alerts", "calendar", "catalogs", "common", "dataproducts", "dataservices",
        "observations", "targets",
    )
]  # fmt: skip


def run(settings, url, folder):
    """How many tests ran, and which did not pass."""
    done = subprocess.run(
        # Canaries ask services of the outside world.
        [sys.executable, "-m", "django", "test", "--settings", settings, "--parallel", "2",
         "--exclude-tag", "canary", *APPS],
        cwd=folder, capture_output=True, text=True, timeout=900,
        env={**os.environ, "NIGHTSHIFT_SERVER": url,
             "PYTHONPATH": f"{TESTS / 'upstream'}:{os.environ['PYTHONPATH']}"},
    )  # fmt: skip
    count = re.search(r"^Ran (\d+) tests", done.stderr, re.MULTILINE)
    assert count, done.stderr
    failed = re.findall(r"^(?:FAIL|ERROR): (\w+ \([\w.]+\))", done.stderr, re.MULTILINE)
    return int(count[1]), set(failed), done.stderr


@pytest.mark.skipif(not find_spec("tom_base"), reason="there is no TOM Toolkit")
def test_no_test_of_the_tom_toolkit_fails_that_did_not_before(own_service, tmp_path):
    before, failed_before, _ = run("tom_base.settings", own_service.url, tmp_path)
    after, failed_after, said = run("tom_settings", own_service.url, tmp_path)
    assert before == after > 600
    # Some fail with either: the package has no data files for them, and there is no network here.
    assert failed_after - failed_before == set(), said
    assert len(failed_before) < 30
