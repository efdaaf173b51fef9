"""What is wrong with the value of an option, of a backend or of a task."""

import base64
import binascii
import math
import os
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

#: The longest that the service lets an attempt or a pause take.
SECONDS_MAX = 604_800
ATTEMPTS_MAX = 100
EXECUTOR = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
SECRET_PREFIX = "whsec_"  # noqa: S105
SECRET_BYTES = range(24, 65)
#: The members of `backoff`, with the least and the greatest value of each.
BACKOFF = {
    "initial_seconds": (0, SECONDS_MAX),
    "factor": (1, 100),
    "max_seconds": (0, SECONDS_MAX),
    "jitter": (0, 1),
}


def problem(name: str, value: Any) -> str | None:
    """What is wrong with that option, as the end of a sentence; None if nothing is.

    None is a value of all options: it means the default.
    """
    return None if value is None else CHECKS[name](value)


def _url(value: Any) -> str | None:
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        # Parsed when it is asked for.
        good = parts and parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    return None if good else f"is not an http or https address: {value!r}"


def _token(value: Any) -> str | None:
    # The value itself is a secret.
    good = isinstance(value, str) and re.fullmatch(r"[!-~]+", value)
    return None if good else "is not a text without spaces"


def _executor(value: Any) -> str | None:
    good = isinstance(value, str) and EXECUTOR.fullmatch(value)
    return None if good else (
        "is not a name of 1 to 100 letters, digits, '.', '_' and '-', without '.' at its "
        f"beginning: {value!r}"
    )  # fmt: skip


def _namespace(value: Any) -> str | None:
    good = isinstance(value, str) and re.fullmatch(r"[^\s*:\x00-\x1f\x7f-\x9f]{1,100}", value)
    return None if good else f"must be a word without ':' or '*': {value!r}"


def _seconds(value: Any) -> str | None:
    good = _is_number(value) and 0 < value < math.inf
    return None if good else f"is not a number of seconds above 0: {value!r}"


def _timeout(value: Any) -> str | None:
    wrong = _seconds(value)
    if wrong is None and value > SECONDS_MAX:
        return f"is more than {SECONDS_MAX} seconds, which are seven days: {value!r}"
    return wrong


def _max_attempts(value: Any) -> str | None:
    good = type(value) is int and 1 <= value <= ATTEMPTS_MAX
    return None if good else f"is not a whole number from 1 to {ATTEMPTS_MAX}: {value!r}"


def _backoff(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return f"is not a dict of {', '.join(BACKOFF)}: {value!r}"
    for name, number in value.items():
        if name not in BACKOFF:
            return f"has no member {name!r}; there are {', '.join(BACKOFF)}"
        least, most = BACKOFF[name]
        if not (_is_number(number) and least <= number <= most):
            return f"has a {name!r} that is not a number from {least} to {most}: {number!r}"
    return None


def _secrets(value: Any) -> str | None:
    secrets = [value] if isinstance(value, str) else value
    if not isinstance(secrets, (list, tuple)):
        return "is not a list of secrets"
    # A secret itself is not said.
    for number, secret in enumerate(secrets, 1):
        if not _is_secret(secret):
            return (
                f"has a secret, number {number}, that is not {SECRET_PREFIX!r} and the base64 of "
                "24 to 64 random bytes"
            )
    return None


def _is_secret(value: Any) -> bool:
    if not isinstance(value, str) or not value.startswith(SECRET_PREFIX):
        return False
    try:
        key = base64.b64decode(value.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        return False
    return len(key) in SECRET_BYTES


def _verify(value: Any) -> str | None:
    if isinstance(value, bool):
        return None
    try:
        ssl.create_default_context(cafile=value)
        good = isinstance(value, (str, os.PathLike)) and bool(os.fspath(value))
    except (OSError, TypeError):
        good = False
    return None if good else f"is not True, False or a file of certificates: {value!r}"


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else f"is not True or False: {value!r}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


CHECKS: dict[str, Callable[[Any], str | None]] = {
    "url": _url,
    "token": _token,
    "executor": _executor,
    "namespace": _namespace,
    "request_timeout": _seconds,
    "timeout": _timeout,
    "max_attempts": _max_attempts,
    "backoff": _backoff,
    "secrets": _secrets,
    "verify": _verify,
    "enqueue_on_commit": _flag,
}
#: Those that a task has as well.
CHECKS_OF_TASKS = ("timeout", "max_attempts", "backoff", "enqueue_on_commit")
