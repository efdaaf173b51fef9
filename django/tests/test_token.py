"""A site whose service asks for a token."""

import pytest
from django.core.checks import run_checks
from django_nightshift.compat import STATUS
from django_nightshift.exceptions import ServiceRefused

from conftest import HTTP, Service, Worker, point_to
from site_app import tasks

ADMIN = "an-admin-token-that-is-long-enough-for-it"


@pytest.fixture
def guarded(tmp_path):
    service = Service(f"sqlite://{tmp_path / 'own.db'}", tmp_path)
    service.start(NIGHTSHIFT_ADMIN_TOKEN=ADMIN)
    yield service
    service.stop()


def shows(token, url, monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_TOKEN", token)
    point_to(url)


def test_a_site_needs_no_admins_token(guarded, monkeypatch):
    wish = {"name": "site", "scopes": ["enqueue", "read", "work"]}
    headers = {"Authorization": f"Bearer {ADMIN}"}
    made = HTTP.post(f"{guarded.url}/tokens", json=wish, headers=headers).json()
    shows(made["secret"], guarded.url, monkeypatch)
    assert [message.id for message in run_checks()] == []
    result = tasks.add.enqueue(1, 2)
    code, said = Worker(guarded.url, "--batch").ends()
    assert code == 0, said
    result.refresh()
    assert (result.status, result.return_value) == (STATUS["SUCCESSFUL"], 3)


def test_a_wrong_token_is_named(guarded, monkeypatch):
    shows("wrong", guarded.url, monkeypatch)
    with pytest.raises(ServiceRefused) as refused:
        tasks.add.enqueue(1, 2)
    assert (refused.value.status, refused.value.code) == (401, "unauthorized")
    assert "nightshift.E002" in [message.id for message in run_checks()]
    code, said = Worker(guarded.url, "--batch").ends()
    assert code != 0
    assert "token" in said, said
