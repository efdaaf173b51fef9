"""Whether the site answers where the service is to call it."""

import json
import secrets
import uuid
from datetime import datetime, timezone
from typing import Any

import httpx
from standardwebhooks import Webhook

from .backend import NightshiftBackend
from .exceptions import NightshiftError

PROBE_SECONDS = 10.0
#: The view's answers to a message whose signature it knows, and to another one.
TAKEN, REFUSED = 204, 401


def probe(backend: NightshiftBackend, url: str) -> None:
    """Sends the address the cancel of a task that there is not, which does nothing.

    Every task would fail for good at an address where something else answers.

    Raises NightshiftError, with what is to be done, unless the view of this site is there: it takes
    a message that is signed with the first secret, and refuses one that is signed with another.
    """
    answer = _send(url, backend.nightshift.secrets[0])
    if answer.status_code != TAKEN:
        raise NightshiftError(f"{url} answers {_words(answer)}{_advice(backend, answer)}")
    unknown = "whsec_" + secrets.token_hex(16) * 2
    if _send(url, unknown).status_code != REFUSED:
        raise NightshiftError(
            f"{url} takes a message that is signed with another secret, so that anybody could "
            "start tasks: it is not the view of django_nightshift.urls"
        )


def _send(url: str, secret: str) -> httpx.Response:
    task_id, now = str(uuid.uuid4()), datetime.now(timezone.utc)
    data: dict[str, Any] = {"task_id": task_id, "attempt": 1}
    data["lease"] = {"token": "probe", "url": url}
    message = {"type": "task.cancel", "timestamp": now.isoformat(), "data": data}
    body, message_id = json.dumps(message), f"{task_id}.1.cancel"
    headers = {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, now, body),
    }
    try:
        # As the service does: no redirects, no proxy.
        return httpx.post(
            url, content=body, headers=headers, timeout=PROBE_SECONDS, trust_env=False
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NightshiftError(
            f"{url} does not answer ({type(error).__name__}: {error}); start the site first, or "
            "say --no-probe where only the service reaches it"
        ) from error


def _words(answer: httpx.Response) -> str:
    return f"{answer.status_code} {answer.reason_phrase}"


def _advice(backend: NightshiftBackend, answer: httpx.Response) -> str:
    status = answer.status_code
    if status == REFUSED:
        return (
            f": the site there has other secrets than TASKS[{backend.alias!r}]['OPTIONS']"
            "['secrets'] here, or its clock is wrong"
        )
    if answer.is_redirect:
        return f" to {answer.headers.get('location', '')}: register the address that answers itself"
    if status == 400:
        return ": its host may be missing from the site's ALLOWED_HOSTS"
    if status == 404:
        return ": include django_nightshift.urls there, and mind the slash at the end"
    return ", and not as the view of django_nightshift.urls does"
