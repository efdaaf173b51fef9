"""The admin's pages, and pruning."""

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client

from conftest import free_port, point_to
from site_app import tasks

LIST = "/admin/django_nightshift/task/"


def user(name, *codenames, **more):
    User.objects.filter(username=name).delete()
    person = User.objects.create_user(name, password="x", is_staff=True, **more)
    person.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(person)
    return client


def test_the_list_shows_and_filters(site, admin, run_all):
    done = tasks.add.enqueue(1, 2)
    run_all()
    waiting = tasks.noop.using(queue_name="slow").enqueue()
    page = admin.get(LIST).content.decode()
    assert done.id in page and waiting.id in page and "site_app.tasks.add" in page
    assert waiting.id not in admin.get(LIST, {"status": "SUCCESSFUL"}).content.decode()
    page = admin.get(LIST, {"queue_name": "slow"}).content.decode()
    assert waiting.id in page and done.id not in page
    assert "No tasks." in admin.get(LIST, {"task_path": "nothing"}).content.decode()
    assert "/admin/django_nightshift/task/" in admin.get("/admin/").content.decode()


def test_the_list_goes_on(site, admin):
    for _ in range(101):
        tasks.noop.enqueue()
    page = admin.get(LIST)
    assert page.content.decode().count('type="checkbox"') == 100
    assert admin.get(LIST + page.context["next"]).content.decode().count('type="checkbox"') == 1


def test_the_page_of_a_task(site, admin, run_all):
    result = tasks.fail.enqueue()
    assert "no executor" in admin.get(f"{LIST}{result.id}/change/").content.decode().lower()
    run_all()
    page = admin.get(f"{LIST}{result.id}/change/").content.decode()
    assert "FAILED" in page and "ValueError: This Task failed due to ValueError" in page
    assert admin.get(f"{LIST}unknown/change/").status_code == 404


def test_cancel_and_retry(site, admin):
    results = [tasks.noop.enqueue() for _ in range(3)]
    ids = [result.id for result in results[:2]]
    page = admin.post(LIST, {"action": "cancel", "id": ids}, follow=True).content.decode()
    assert "2 tasks cancelled." in page
    assert [site.task(r)["status"] for r in results] == ["CANCELLED", "CANCELLED", "READY"]
    page = admin.post(f"{LIST}{ids[0]}/change/", {"action": "retry"}, follow=True)
    assert "1 task made ready again." in page.content.decode()
    assert site.task(results[0])["status"] == "READY"
    page = admin.post(LIST, {"action": "retry", "id": [ids[0]]}, follow=True).content.decode()
    assert ids[0] in page and "task_not" in page
    assert (
        "Choose tasks"
        in admin.post(LIST, {"action": "delete", "id": ids}, follow=True).content.decode()
    )


def test_permissions(site, database):
    result = tasks.noop.enqueue()
    viewer, nobody = user("viewer", "view_task"), user("nobody")
    assert viewer.get(LIST).status_code == 200
    assert 'value="cancel"' not in viewer.get(LIST).content.decode()
    assert viewer.post(LIST, {"action": "cancel", "id": [result.id]}).status_code == 403
    assert nobody.get(LIST).status_code == 403
    assert nobody.get(f"{LIST}{result.id}/change/").status_code == 403
    assert Client().get(LIST).status_code == 302
    assert site.task(result)["status"] == "READY"
    assert user("admin", is_superuser=True).get(f"{LIST}add/").status_code == 403


def test_a_service_that_is_away_is_said(site, admin, settings_of):
    settings_of["default"]["OPTIONS"]["request_timeout"] = 0.2
    point_to(f"http://127.0.0.1:{free_port()}")
    page = admin.get(LIST)
    assert page.status_code == 200 and "cannot be reached" in page.content.decode()


@pytest.fixture
def settings_of():
    """TASKS, as it was afterwards."""
    from copy import deepcopy

    from django.conf import settings

    kept = settings.TASKS
    settings.TASKS = deepcopy(kept)
    yield settings.TASKS
    settings.TASKS = kept


def prune(capsys, **options):
    call_command("nightshift_prune", **options)
    return capsys.readouterr().out.strip()


def test_c47_pruning(site, run_all, capsys):
    done, slow, failed, waiting = (
        tasks.noop.enqueue(),
        tasks.noop.using(queue_name="slow").enqueue(),
        tasks.fail.enqueue(),
        None,
    )
    run_all("--queue-name", "*")
    waiting = tasks.noop.enqueue()
    left = lambda: {task["id"] for task in site.get("/tasks")["items"]}  # noqa: E731
    assert prune(capsys) == "Deleted 0 task result(s)"
    assert prune(capsys, min_age_days=0, dry_run=True) == "Would delete 2 task result(s)"
    assert len(left()) == 4
    out = prune(capsys, min_age_days=0, failed_min_age_days=1)
    assert out == "Deleted 1 task result(s)"
    assert left() == {slow.id, failed.id, waiting.id}
    assert prune(capsys, min_age_days=0, queue_name="default,slow") == "Deleted 2 task result(s)"
    assert left() == {waiting.id}
    waiting.cancel()
    assert prune(capsys, min_age_days=0, queue_name="*", dry_run=True).startswith("Would delete 1 ")
    assert prune(capsys, min_age_days=0, queue_name="*") == "Deleted 1 task result(s)"
    assert left() == set() and done.id
