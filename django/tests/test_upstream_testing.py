"""Django's tests of its own Immediate and Dummy backends, run with ours in their place."""

from types import SimpleNamespace

import django
import pytest
from django_nightshift.compat import FRAMEWORK
from test_upstream import run, source

#: These ask for the class itself.
OF_THE_CLASS = {"test_get_backend", "test_using_correct_backend"}
#: These ask that something is not possible, which is, or that a task does not wait for the commit.
OF_LESS = {
    "test_cannot_get_result",
    "test_cannot_pass_run_after",
    "test_cannot_refresh_result",
    "test_doesnt_wait_until_transaction_commit_by_default",
}
#: These change what `results` holds, where ours are copies.
OF_COPIES = {"test_refresh_result", "test_refresh_result_async"}


@pytest.mark.skipif(FRAMEWORK != "django.tasks", reason="Django has tasks from 6.0 on")
def test_the_tests_of_djangos_backends_for_tests(tmp_path):
    tests = source(f"django-{django.__version__}", "tests/tasks", tmp_path)
    tests.rename(tmp_path / "tasks")
    names = ("test_dummy_backend", "test_immediate_backend", "test_tasks")
    for name in names:
        file = tmp_path / f"tasks/{name}.py"
        text = file.read_text()
        for kind in ("dummy.Dummy", "immediate.Immediate"):
            ours = f"django_nightshift.testing.{kind.partition('.')[2]}Backend"
            text = text.replace(f"django.tasks.backends.{kind}Backend", ours)
        assert "django_nightshift.testing" in text
        file.write_text(text)
    nowhere = SimpleNamespace(url="http://127.0.0.1:1")
    count, failed, said = run(nowhere, tmp_path, *(f"tasks.{name}" for name in names))
    assert failed == OF_THE_CLASS | OF_LESS | OF_COPIES, said
    assert count >= 76
