"""What can be set in `TASKS["..."]["OPTIONS"]`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from .validation import problem

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
            "url": os.environ.get("NIGHTSHIFT_SERVER"),
            "token": os.environ.get("NIGHTSHIFT_TOKEN"),
            **given,
        }
        for name, value in values.items():
            if reason := problem(name, value):
                raise ImproperlyConfigured(f"TASKS[{alias!r}]['OPTIONS'][{name!r}] {reason}")
        # None means the default.
        said = {name: value for name, value in values.items() if value is not None}
        if isinstance(said.get("secrets"), str):
            said["secrets"] = (said["secrets"],)
        said["secrets"] = tuple(said.get("secrets", ()))
        if isinstance(said.get("verify"), os.PathLike):
            said["verify"] = os.fspath(said["verify"])
        return cls(**said)

    def task_path(self, module_path: str) -> str:
        """The service's name for a function of this site."""
        return f"{self.namespace}:{module_path}" if self.namespace else module_path

    def module_path(self, task_path: str) -> str:
        """This site's name for one of the service's task paths."""
        return task_path.removeprefix(f"{self.namespace}:") if self.namespace else task_path

    def owns(self, task_path: str) -> bool:
        """Whether a task of that path is one of this site's; without a namespace, all are."""
        return self.namespace is None or task_path.startswith(f"{self.namespace}:")

    def patterns(self) -> list[str]:
        """The task paths that this site's workers serve."""
        return [self.task_path("*")]


def _with_former_key(alias: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """The options, with what django-tasks before 0.10 had beside them."""
    options = params.get("OPTIONS", {})
    if not isinstance(options, Mapping):
        raise ImproperlyConfigured(f"TASKS[{alias!r}]['OPTIONS'] is not a dict: {options!r}")
    given = dict(options)
    if FORMER_KEY in params:
        former = params[FORMER_KEY]
        if reason := problem("enqueue_on_commit", former):
            raise ImproperlyConfigured(f"TASKS[{alias!r}][{FORMER_KEY!r}] {reason}")
        if given.setdefault("enqueue_on_commit", former) != former:
            raise ImproperlyConfigured(
                f"TASKS[{alias!r}][{FORMER_KEY!r}] says the opposite of "
                f"TASKS[{alias!r}]['OPTIONS']['enqueue_on_commit']; remove one of the two"
            )
    return given
