"""What can be set in `TASKS["..."]["OPTIONS"]`."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

DEFAULT_URL = "http://127.0.0.1:8700"
#: A day. A worker that dies is noticed within its lease's 30 seconds; this is for work that hangs.
DEFAULT_TASK_TIMEOUT = 86_400.0
#: How django-tasks up to 0.9 calls `enqueue_on_commit`, beside the options.
FORMER_KEY = "ENQUEUE_ON_COMMIT"


@dataclass(frozen=True)
class Options:
    """The options of a backend; all may be left out."""

    #: Where the service is; `NIGHTSHIFT_SERVER` by default, else http://127.0.0.1:8700.
    url: str = DEFAULT_URL
    #: Bearer token, where the service asks for one; `NIGHTSHIFT_TOKEN` by default.
    token: str | None = None
    #: The executor that this site's workers work for.
    executor: str = "django"
    #: Keeps the task paths of several sites on one service apart: `saguaro` makes
    #: `saguaro:myapp.tasks.vet` of `myapp.tasks.vet`. None by default.
    namespace: str | None = None
    #: Seconds that a request may take, its repetitions included.
    request_timeout: float = 5.0
    #: Seconds that one attempt of a task may take, at most 604,800.
    timeout: float = DEFAULT_TASK_TIMEOUT
    #: How often a task is tried in all, 1 to 100. Django's own backends try once.
    max_attempts: int = 1
    #: `{"initial_seconds": 5, "factor": 2, "max_seconds": 3600, "jitter": 0.2}`, or part of it.
    backoff: Mapping[str, float] | None = None
    #: Signing secrets (`whsec_...`) of the push form, the current one first.
    secrets: tuple[str, ...] = ()
    #: Whether the service's certificate is checked; or a file of certificates to trust.
    verify: bool | str = True
    #: Whether a task that is enqueued within a transaction waits for its commit.
    enqueue_on_commit: bool = True

    @classmethod
    def read(cls, alias: str, params: Mapping[str, Any]) -> "Options":
        """The options of a backend's settings, with what the environment says.

        Raises ImproperlyConfigured, naming the setting.
        """
        given = _with_former_key(alias, params)
        known = {field.name for field in fields(cls)}
        for name in given:
            if name not in known:
                raise ImproperlyConfigured(
                    f"TASKS[{alias!r}]['OPTIONS'] has no option {name!r}; "
                    f"there are {', '.join(sorted(known))}"
                )
        values = {
            "url": os.environ.get("NIGHTSHIFT_SERVER", DEFAULT_URL),
            "token": os.environ.get("NIGHTSHIFT_TOKEN"),
            **given,
        }
        if isinstance(values.get("secrets"), str):
            values["secrets"] = (values["secrets"],)
        values["secrets"] = tuple(values.get("secrets", ()))
        options = cls(**values)
        options._check(alias)
        return options

    def _check(self, alias: str) -> None:
        def refuse(name: str, reason: str) -> None:
            raise ImproperlyConfigured(f"TASKS[{alias!r}]['OPTIONS'][{name!r}] {reason}")

        url = urlsplit(self.url)
        if url.scheme not in ("http", "https") or not url.hostname:
            refuse("url", f"is not an http or https address: {self.url!r}")
        for name in ("request_timeout", "timeout"):
            seconds = getattr(self, name)
            if not (isinstance(seconds, (int, float)) and 0 < seconds < math.inf):
                refuse(name, f"is not a number of seconds above 0: {seconds!r}")
        if not (isinstance(self.max_attempts, int) and 1 <= self.max_attempts <= 100):
            refuse("max_attempts", f"is not a whole number from 1 to 100: {self.max_attempts!r}")
        if self.namespace is not None and (not self.namespace or set(self.namespace) & set(" *:")):
            refuse("namespace", f"must be a word without ':' or '*': {self.namespace!r}")
        waits: Any = self.enqueue_on_commit
        if not isinstance(waits, bool):
            refuse("enqueue_on_commit", f"is not True or False: {waits!r}")

    def task_path(self, module_path: str) -> str:
        """The service's name for a function of this site."""
        return f"{self.namespace}:{module_path}" if self.namespace else module_path

    def module_path(self, task_path: str) -> str:
        """This site's name for one of the service's task paths."""
        return task_path.removeprefix(f"{self.namespace}:") if self.namespace else task_path

    def patterns(self) -> list[str]:
        """The task paths that this site's workers serve."""
        return [self.task_path("*")]


def _with_former_key(alias: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """The options, with what django-tasks before 0.10 had beside them."""
    given = dict(params.get("OPTIONS", {}))
    if FORMER_KEY in params:
        former = params[FORMER_KEY]
        if not isinstance(former, bool):
            raise ImproperlyConfigured(
                f"TASKS[{alias!r}][{FORMER_KEY!r}] is not True or False: {former!r}"
            )
        if given.setdefault("enqueue_on_commit", former) != former:
            raise ImproperlyConfigured(
                f"TASKS[{alias!r}][{FORMER_KEY!r}] says the opposite of "
                f"TASKS[{alias!r}]['OPTIONS']['enqueue_on_commit']; remove one of the two"
            )
    return given
