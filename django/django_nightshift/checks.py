"""Says at start what is wrong with the settings, and with what they point to."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning

from .exceptions import ServiceRefused, ServiceUnavailable

if TYPE_CHECKING:
    from .backend import NightshiftBackend

#: Checks run before most management commands, which a service that is away must not hold up.
CHECK_SECONDS = 2.0


def check_service(backend: "NightshiftBackend") -> Iterator[CheckMessage]:
    """Whether the app is installed, and the service reachable and willing."""
    setting = f"TASKS[{backend.alias!r}]['OPTIONS']"
    for key in backend.ignored:
        yield Warning(
            f"TASKS[{backend.alias!r}][{key!r}] is ignored.",
            hint=f"Options of Nightshift are members of {setting}.",
            id="nightshift.W002",
        )
    if not apps.is_installed("django_nightshift"):
        yield Error(
            "NightshiftBackend is configured, but its app is not installed.",
            hint="Insert 'django_nightshift' in INSTALLED_APPS.",
            id="nightshift.E001",
        )
    if _first_with(backend) != backend.alias:
        # Said once of a service, however many aliases have it.
        return
    try:
        backend.service.request("GET", "/queues?limit=1", seconds=CHECK_SECONDS)
    except ServiceUnavailable as error:
        yield Warning(
            str(error),
            hint=f"Start it with `nightshift serve`, or set {setting}['url'].",
            id="nightshift.W001",
        )
    except ServiceRefused as error:
        if error.status in (401, 403):
            yield Error(
                f"Nightshift at {backend.service.url} refuses the token: {error.detail}",
                hint=f"Set {setting}['token'] or NIGHTSHIFT_TOKEN.",
                id="nightshift.E002",
            )
        else:
            yield Error(
                f"What answers at {backend.service.url} is not Nightshift: {error.detail}",
                hint=f"Set {setting}['url'] or NIGHTSHIFT_SERVER.",
                id="nightshift.E003",
            )


def _first_with(backend: "NightshiftBackend") -> str:
    """The alias of the site's first backend that has the same service and token."""
    from .backend import nightshift_backends

    def service(one: "NightshiftBackend") -> tuple[object, ...]:
        options = one.nightshift
        return options.url, options.token, options.verify

    wanted = service(backend)
    return next((b.alias for b in nightshift_backends() if service(b) == wanted), backend.alias)
