"""Settings and tasks with options that cannot be: found before anything is enqueued."""

import base64
import ssl
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from django_nightshift import NightshiftBackend
from django_nightshift.compat import InvalidTask
from test_enqueue import check

from site_app import tasks


def secret(count):
    return "whsec_" + base64.b64encode(bytes(count)).decode()


def backend(**options):
    return NightshiftBackend("default", {"OPTIONS": options})


WRONG = [
    ("backoff", 5, "is not a dict of initial_seconds, factor, max_seconds, jitter: 5"),
    ("backoff", {"initial": 5}, "has no member 'initial'"),
    ("backoff", {"factor": 0.5}, "'factor' that is not a number from 1 to 100: 0.5"),
    ("backoff", {"jitter": "much"}, "'jitter' that is not a number from 0 to 1: 'much'"),
    ("backoff", {"max_seconds": float("nan")}, "'max_seconds' that is not a number"),
    ("timeout", 604_801, "is more than 604800 seconds"),
    ("timeout", True, "is not a number of seconds above 0: True"),
    ("timeout", float("inf"), "is not a number of seconds above 0: inf"),
    ("max_attempts", True, "is not a whole number from 1 to 100: True"),
    ("max_attempts", 101, "is not a whole number from 1 to 100: 101"),
    ("enqueue_on_commit", 1, "is not True or False: 1"),
    ("executor", "", "is not a name of 1 to 100 letters"),
    ("executor", ".django", "is not a name of 1 to 100 letters"),
    ("executor", "a b", "is not a name of 1 to 100 letters"),
    ("executor", 5, "is not a name of 1 to 100 letters"),
    ("namespace", "a b", "must be a word"),
    ("namespace", 5, "must be a word"),
    ("secrets", "secret", "has a secret, number 1, that is not 'whsec_' and the base64"),
    ("secrets", [secret(24), secret(23)], "has a secret, number 2, that is not"),
    ("secrets", ["whsec_???"], "has a secret, number 1"),
    ("secrets", 5, "is not a list of secrets"),
    ("verify", "no-such-file.pem", "is not True, False or a file of certificates"),
    ("verify", __file__, "is not True, False or a file of certificates"),
    ("verify", "", "is not True, False or a file of certificates"),
    ("verify", 1, "is not True, False or a file of certificates"),
    ("token", "two words", "is not a text without spaces"),
    ("token", 5, "is not a text without spaces"),
    ("url", 5, "is not an http or https address"),
    ("url", "http://host:port/", "is not an http or https address"),
]
OF_TASKS = {"backoff", "timeout", "max_attempts", "enqueue_on_commit"}


@pytest.mark.parametrize(("name", "value", "reason"), WRONG)
def test_a_wrong_option_of_a_backend_is_named(name, value, reason):
    with pytest.raises(ImproperlyConfigured) as error:
        backend(**{name: value})
    assert str(error.value).startswith(f"TASKS['default']['OPTIONS'][{name!r}] ")
    assert reason in str(error.value)
    assert secret(23) not in str(error.value)


@pytest.mark.parametrize(("name", "value", "reason"), [w for w in WRONG if w[0] in OF_TASKS])
def test_a_wrong_option_of_a_task_is_named_before_it_is_enqueued(name, value, reason):
    with pytest.raises(InvalidTask) as error:
        tasks.noop.using(**{name: value})
    assert str(error.value).startswith(f"The task's {name} ") and reason in str(error.value)


@pytest.mark.parametrize("options", [None, [], "url"])
def test_options_that_are_no_dict_are_named(options):
    with pytest.raises(ImproperlyConfigured, match=r"\['OPTIONS'\] is not a dict"):
        NightshiftBackend("default", {"OPTIONS": options})


def test_right_options_are_taken():
    own = backend(
        executor="a-b_c.9",
        namespace="saguaro",
        backoff={"initial_seconds": 0, "factor": 1, "max_seconds": 604_800, "jitter": 1},
        timeout=604_800,
        secrets=[secret(24), secret(64)],
        token=None,
        max_attempts=None,
        verify=False,
    )
    assert (own.nightshift.max_attempts, own.nightshift.backoff["factor"]) == (1, 1)
    assert backend(secrets=secret(32)).nightshift.secrets == (secret(32),)


def test_a_file_of_certificates_is_taken():
    file = ssl.get_default_verify_paths().cafile
    if file is None or not Path(file).is_file():
        pytest.skip("this machine has no file of certificates")
    for value in (file, Path(file)):
        assert backend(verify=value).service is not None


def test_check_finds_them(own_service):
    """`manage.py check` names the setting, and says which ones nobody reads."""
    code, said = check(NIGHTSHIFT_SERVER=own_service.url, NIGHTSHIFT_SECRET="whsec_short")
    assert code == 1 and "TASKS['default']['OPTIONS']['secrets'] has a secret, number 1" in said
    ignored = {"MAX_ATTEMPTS": 3, "OPTIONS": {"url": own_service.url}}
    with override_settings(TASKS={}):
        (message,) = NightshiftBackend("default", ignored).check()
    assert message.id == "nightshift.W002"
    assert message.msg == "TASKS['default']['MAX_ATTEMPTS'] is ignored."
