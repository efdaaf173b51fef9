"""Sites that share a service: what belongs to another one's namespace is not shown."""

import asyncio
from contextlib import contextmanager

import pytest
from django.core.management import call_command
from django.test import override_settings
from django_nightshift.compat import TaskResultDoesNotExist, task_backends

from site_app import tasks

LIST = "/admin/django_nightshift/task/"


@contextmanager
def site_of(*namespaces):
    """TASKS of a site with a backend for each; None is one without."""
    aliases = ["default", "second"]
    backends = {
        alias: {
            "BACKEND": "django_nightshift.NightshiftBackend",
            "OPTIONS": {"namespace": name, "executor": name or "django"},
        }
        for alias, name in zip(aliases, namespaces, strict=False)
    }
    with override_settings(TASKS=backends):
        yield


@pytest.fixture
def foreign(site):
    with site_of("saguaro"):
        return tasks.noop.enqueue()


def test_a_result_of_another_namespace_does_not_exist(site, foreign):
    with site_of("kitt"):
        own = tasks.noop.enqueue()
        assert tasks.noop.get_result(own.id) == own
        for get in (
            task_backends["default"].get_result,
            lambda task_id: asyncio.run(task_backends["default"].aget_result(task_id)),
        ):
            with pytest.raises(TaskResultDoesNotExist):
                get(foreign.id)
    with site_of("saguaro"):
        assert task_backends["default"].get_result(foreign.id).task.module_path.endswith("noop")
    with site_of(None):
        assert task_backends["default"].get_result(foreign.id).id == foreign.id


def test_the_admin_shows_only_the_sites_own_tasks(site, admin, foreign):
    with site_of("kitt"):
        own, other = tasks.noop.enqueue(), tasks.add.enqueue(1, 2)
        page = admin.get(LIST).content.decode()
        assert own.id in page and other.id in page and foreign.id not in page
        page = admin.get(LIST, {"task_path": "site_app.tasks.n*"}).content.decode()
        assert own.id in page and other.id not in page and foreign.id not in page
        assert admin.get(f"{LIST}{own.id}/change/").status_code == 200
        assert admin.get(f"{LIST}{foreign.id}/change/").status_code == 404
        for address, ids in ((LIST, [own.id, foreign.id]), (f"{LIST}{foreign.id}/change/", [])):
            admin.post(address, {"action": "cancel", "id": ids})
    assert (site.task(own)["status"], site.task(foreign)["status"]) == ("CANCELLED", "READY")


def test_the_admin_of_several_namespaces_shows_one_after_the_other(site, admin, foreign):
    with site_of("kitt", "saguaro"):
        own = tasks.noop.enqueue()
        page = admin.get(LIST).content.decode()
        assert own.id in page and foreign.id not in page and 'name="backend"' in page
        page = admin.get(LIST, {"backend": "second"}).content.decode()
        assert own.id not in page and foreign.id in page
        assert admin.get(f"{LIST}{foreign.id}/change/").status_code == 200
        admin.post(f"{LIST}{foreign.id}/change/", {"action": "cancel"})
    assert site.task(foreign)["status"] == "CANCELLED"


def test_the_next_page_stays_with_the_backend(site, admin):
    with site_of("kitt", "saguaro"):
        for _ in range(101):
            tasks.noop.using(backend="second").enqueue()
        page = admin.get(LIST, {"backend": "second"})
        assert page.content.decode().count('type="checkbox"') == 100
        after = admin.get(LIST + page.context["next"]).content.decode()
        assert after.count('type="checkbox"') == 1


def test_the_admin_of_a_site_without_a_namespace_shows_all(site, admin, foreign):
    with site_of(None):
        page = admin.get(LIST).content.decode()
        assert foreign.id in page and 'name="backend"' not in page


def test_pruning_leaves_other_namespaces_alone(site, foreign, capsys):
    foreign.cancel()
    with site_of("kitt"):
        own = tasks.noop.enqueue()
        own.cancel()
        for queues in ("default", "*"):
            call_command("nightshift_prune", min_age_days=0, queue_name=queues)
    assert [task["id"] for task in site.get("/tasks")["items"]] == [foreign.id]
    assert "Deleted 1 task result(s)" in capsys.readouterr().out
