"""Tasks in Django's admin: read from the service, with cancel and retry."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse

from .backend import NightshiftBackend, nightshift_backends
from .client import task_url
from .exceptions import NightshiftError, ServiceRefused
from .execute import tell_of_end
from .models import Task
from .results import parse_time

STATUSES = ("READY", "RUNNING", "SUCCESSFUL", "FAILED", "CANCELLED")
ACTIONS = {"cancel": "cancelled", "retry": "made ready again"}
FILTERS = ("status", "queue_name", "task_path", "cursor")
TIMES = ("enqueued_at", "started_at", "finished_at", "run_after", "last_attempted_at")


@admin.register(Task)
class TaskAdmin(admin.ModelAdmin):
    """The list and the page of a task, both read-only but for the two actions."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            return self._act(request, request.POST.getlist("id"))
        backends = _backends()
        backend = next((b for b in backends if b.alias == request.GET.get("backend")), backends[0])
        query = {name: value for name in FILTERS if (value := request.GET.get(name))}
        try:
            page = backend.service.request("GET", "/tasks", params=_of_site(backend, query))
        except NightshiftError as error:
            messages.error(request, str(error))
            page = {"items": [], "next_cursor": None}
        shown = {"backend": backend.alias, **query} if len(backends) > 1 else query
        context = {
            **self._context(request),
            "title": "Tasks",
            "tasks": [_for_people(task) for task in page["items"]],
            "next": _address({**shown, "cursor": page["next_cursor"]}),
            "has_next": page["next_cursor"] is not None,
            "statuses": STATUSES,
            "aliases": [one.alias for one in backends] if len(backends) > 1 else [],
            "alias": backend.alias,
            "query": query,
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/django_nightshift/task_list.html", context)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        if object_id is None or not self.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            return self._act(request, [object_id])
        try:
            backend, task = _find(object_id)
            service = backend.service
            logs = service.request("GET", task_url(object_id, "/logs"), params={"limit": 1000})
            why = service.request("GET", task_url(object_id, "/explain"))
        except ServiceRefused as error:
            raise Http404(error.detail) from error
        except NightshiftError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect("..")
        context = {
            **self._context(request),
            "title": task["task_path"],
            "task": _for_people(task),
            "errors": [_for_people(error) for error in task["errors"]],
            "logs": [_for_people(line) for line in logs["items"]],
            "dropped": logs["dropped"],
            "more_logs": logs["next_cursor"] is not None,
            "reasons": [] if task["finished_at"] else why["reasons"],
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/django_nightshift/task.html", context)

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        raise Http404("the history of a task is on its page")

    def _act(self, request: HttpRequest, task_ids: list[str]) -> HttpResponse:
        """Cancels or retries tasks, and says what became of each."""
        action = request.POST.get("action", "")
        if not self.has_change_permission(request):
            raise PermissionDenied
        if action not in ACTIONS or not task_ids:
            messages.warning(request, "Choose tasks and an action.")
            return HttpResponseRedirect(request.get_full_path())
        done = 0
        for task_id in task_ids:
            try:
                backend, _ = _find(task_id)
                record = backend.service.request("POST", task_url(task_id, f"/{action}"))
                done += 1
                if action == "cancel" and record["finished_at"]:
                    # It waited, so that no worker says it.
                    tell_of_end(backend, record)
            except NightshiftError as error:
                messages.error(request, f"{task_id}: {error}")
        if done:
            messages.success(request, f"{done} task{'s' if done > 1 else ''} {ACTIONS[action]}.")
        return HttpResponseRedirect(request.get_full_path())

    def _context(self, request: HttpRequest) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "may_change": self.has_change_permission(request),
        }


def _backends() -> list[NightshiftBackend]:
    """The site's Nightshift backends, one for each service and namespace."""
    found: dict[tuple[str, str | None], NightshiftBackend] = {}
    for backend in nightshift_backends():
        found.setdefault((backend.service.url, backend.nightshift.namespace), backend)
    if not found:
        raise Http404("TASKS names no Nightshift backend")
    return list(found.values())


def _of_site(backend: NightshiftBackend, query: dict[str, Any]) -> dict[str, Any]:
    """The filters, such that only tasks of the backend's namespace are found."""
    path = query.get("task_path") or ("*" if backend.nightshift.namespace else None)
    return {**query, "task_path": backend.nightshift.task_path(path)} if path else query


def _find(task_id: str) -> tuple[NightshiftBackend, dict[str, Any]]:
    """The task's record, and the backend that it belongs to.

    Raises ServiceRefused where none of the site's backends has it in its namespace.
    """
    for backend in _backends():
        try:
            task = backend.service.request("GET", task_url(task_id))
        except ServiceRefused as error:
            if error.code != "task_not_found":
                raise
        else:
            if backend.nightshift.owns(task["task_path"]):
                return backend, task
    raise ServiceRefused(404, "task_not_found", "there is no such task")


def _for_people(record: dict[str, Any]) -> dict[str, Any]:
    """The record with times that templates can show."""
    times = {name: parse_time(record[name]) for name in (*TIMES, "at") if record.get(name)}
    return {**record, **times}


def _address(query: dict[str, Any]) -> str:
    return "?" + urlencode({name: value for name, value in query.items() if value})
