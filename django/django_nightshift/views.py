"""The push form: the service calls this site for each task."""

import json
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from standardwebhooks import Webhook, WebhookVerificationError

from .backend import NightshiftBackend, nightshift_backends
from .context import send_logs_along
from .exceptions import NightshiftError
from .execute import execute

#: How long progress and log lines may hold the task up.
REPORT_SECONDS = 1.0


@csrf_exempt
@require_POST
def execute_task(request: HttpRequest) -> HttpResponse:
    """Runs the task of a signed `task.execute` message, and answers as it ended.

    200 with the return value; 500 with `exception_class_path`, `message` and `traceback` when the
    task failed, 404 with them when there is no such task; 401 when the signature is missing, wrong
    or old; 400 for another message.
    """
    backend = _sender(request)
    if backend is None:
        return _refusal(401, "the signature fits none of the secrets in TASKS")
    try:
        message = json.loads(request.body)
        kind, data = message["type"], message["data"]
        if kind == "task.cancel":
            # A request that runs cannot be stopped; the service has given it up.
            return HttpResponse(status=204)
        if kind != "task.execute":
            return _refusal(400, f"unknown message type {kind!r}")
        record = _record(data, backend)
        reporter = _WebReporter(backend, data["lease"]["token"])
    except (ValueError, KeyError, TypeError) as error:
        return _refusal(400, f"not a message of Nightshift: {error!r}")
    send_logs_along()
    outcome = execute(backend, record, reporter)
    reporter.flush()
    if outcome.error is not None:
        # The site's next release may bring the task.
        report = {"retryable": True, **outcome.error}
        response = _json(500 if outcome.found else 404, json.dumps(report))
    else:
        response = _json(200, str(outcome.return_value))
    # By which the service knows the answer for this site's.
    response["Nightshift-Task-Id"] = record["id"]
    return response


def _sender(request: HttpRequest) -> NightshiftBackend | None:
    """The backend whose secret signed the request."""
    for backend in nightshift_backends():
        for secret in backend.nightshift.secrets:
            try:
                Webhook(secret).verify(request.body, dict(request.headers), json_parse=False)
            except (WebhookVerificationError, ValueError):
                continue
            return backend
    return None


def _record(data: dict[str, Any], backend: NightshiftBackend) -> dict[str, Any]:
    """What the message says, in the shape of a task's record."""
    now = timezone.now().isoformat()
    return {
        **{name: data[name] for name in ("task_path", "args", "kwargs", "queue_name", "priority")},
        "id": data["task_id"],
        "status": "RUNNING",
        "enqueued_at": data["enqueued_at"],
        "started_at": now,
        "last_attempted_at": now,
        "finished_at": None,
        "run_after": None,
        "errors": [],
        "worker_ids": [backend.nightshift.executor] * int(data["attempt"]),
        "return_value": None,
        "progress": None,
    }


class _WebReporter:
    """Sends progress at once, and log lines with it or at the end."""

    def __init__(self, backend: NightshiftBackend, token: str) -> None:
        self.service = backend.service
        self.path = f"/leases/{token}/renew"
        self.lines: list[dict[str, str]] = []
        self.is_cancelled = False

    def begin(self) -> None:
        pass

    def end(self) -> None:
        pass

    def progress(self, fraction: float | None, message: str | None) -> None:
        self._renew({"progress": {"fraction": fraction, "message": message}})

    def log(self, line: dict[str, str]) -> None:
        self.lines.append(line)
        if len(self.lines) >= 1_000:
            self.flush()

    def cancelled(self) -> bool:
        self._renew({})
        return self.is_cancelled

    def flush(self) -> None:
        if self.lines:
            self._renew({})

    def _renew(self, body: dict[str, Any]) -> None:
        lines, self.lines = self.lines, []
        if lines:
            body["logs"] = lines
        try:
            answer = self.service.request("POST", self.path, body, seconds=REPORT_SECONDS)
        except NightshiftError:
            # The outcome does not depend on it.
            return
        self.is_cancelled = answer["cancel_requested"]


def _refusal(status: int, detail: str) -> HttpResponse:
    problem = {"title": "Refused", "status": status, "detail": detail, "message": detail}
    return _json(status, json.dumps(problem), "application/problem+json")


def _json(status: int, text: str, content_type: str = "application/json") -> HttpResponse:
    return HttpResponse(text, status=status, content_type=content_type)
