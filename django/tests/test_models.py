"""The admin's model has no table; what goes over all of a site's models gets along with that."""

import json

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core import serializers
from django.core.management import call_command
from django.urls import reverse
from django_nightshift.models import Task

from site_app import tasks


@pytest.mark.parametrize("options", [{}, {"use_base_manager": True}])
def test_dumpdata_and_loaddata(database, capsys, tmp_path, options):
    User.objects.filter(username="dumped").delete()
    User.objects.create_user("dumped")
    call_command("dumpdata", **options)
    text = capsys.readouterr().out
    models = {row["model"] for row in json.loads(text)}
    assert "auth.user" in models and "django_nightshift.task" not in models
    (tmp_path / "site.json").write_text(text)
    call_command("loaddata", tmp_path / "site.json", verbosity=0)
    call_command("dumpdata", "django_nightshift.Task", **options)
    assert json.loads(capsys.readouterr().out) == []


def test_all_models_of_the_site_can_be_read(database):
    for model in apps.get_models():
        for manager in (model._default_manager, model._base_manager):
            assert manager.count() == len(list(manager.order_by("pk")))
            assert manager.filter(pk=0).first() is None
    assert not Task.objects.filter(pk="1").exists()
    assert json.loads(serializers.serialize("json", Task.objects.all())) == []


def test_all_admin_pages_of_a_task(site, admin):
    result = tasks.noop.enqueue()
    for task_id in (result.id, "unknown"):
        for page, status in (("delete", 403), ("history", 404)):
            address = reverse(f"admin:django_nightshift_task_{page}", args=[task_id])
            assert admin.get(address).status_code == status
            assert admin.post(address, {"post": "yes"}).status_code == status
    assert site.task(result)["status"] == "READY"


def test_deleting_something_else_in_the_admin(site, admin):
    person = User.objects.create_user("gone")
    address = reverse("admin:auth_user_delete", args=[person.pk])
    assert admin.get(address).status_code == 200
    assert admin.post(address, {"post": "yes"}).status_code == 302
    assert not User.objects.filter(pk=person.pk).exists()
