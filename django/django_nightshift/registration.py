"""Tells the service who runs this site's tasks."""

from typing import Any

from .backend import NightshiftBackend
from .exceptions import NightshiftError, ServiceRefused


async def ensure_registered(backend: NightshiftBackend) -> dict[str, Any]:
    """Registers the site's executor unless there is one, and answers the registration.

    One that is there is left as it is: somebody may have set limits on it.
    Raises ServiceRefused where its name is taken by an executor that workers cannot work for.
    """
    options = backend.nightshift
    path = f"/executors/{options.executor}"
    try:
        executor = await backend.service.arequest("GET", path)
    except ServiceRefused as error:
        if error.code != "executor_not_found":
            raise
        executor = await backend.service.arequest("PUT", path, worker_registration(backend))
    if executor["kind"] != "worker":
        raise ServiceRefused(
            409,
            "executor_not_worker",
            f"the executor {options.executor!r} is called by the service and has no workers; "
            f"set TASKS[{backend.alias!r}]['OPTIONS']['executor'] to another name",
        )
    return dict(executor)


def worker_registration(backend: NightshiftBackend, **more: Any) -> dict[str, Any]:
    """The registration of an executor whose workers run every task of this site."""
    return {"kind": "worker", "task_paths": backend.nightshift.patterns(), **more}


def push_registration(backend: NightshiftBackend, url: str, **more: Any) -> dict[str, Any]:
    """The registration of a site that the service calls.

    Raises NightshiftError where the site has no secret to know the service by.
    """
    secrets = backend.nightshift.secrets
    if not secrets:
        raise NightshiftError(
            f"set TASKS[{backend.alias!r}]['OPTIONS']['secrets'] to a list with a secret, 'whsec_' "
            "and the base64 of 24 to 64 random bytes, so that nobody else can start tasks"
        )
    signing = {"secret": secrets[0]}
    if len(secrets) > 1:
        signing["previous_secret"] = secrets[1]
    patterns = backend.nightshift.patterns()
    return {"kind": "http", "url": url, "task_paths": patterns, **signing, **more}
