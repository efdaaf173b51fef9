"""The backend for `TASKS`: tasks wait and run in Nightshift."""

import json
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.core.checks import CheckMessage
from django.utils import timezone

from .checks import check_service
from .client import Service, service_of, task_url
from .compat import (
    STATUS,
    BaseTaskBackend,
    InvalidTask,
    InvalidTaskBackend,
    TaskResultDoesNotExist,
    empty_result_fields,
    task_backends,
    task_enqueued,
    to_json,
)
from .exceptions import NightshiftError, ServiceRefused
from .options import FORMER_KEY, Options
from .results import TaskResult, parse_time, result_of
from .task import Task, copy_task, known_or_missing_task, resolve_run_after
from .transactions import AfterCommit, open_transactions
from .validation import CHECKS_OF_TASKS, problem

logger = logging.getLogger("django_nightshift")

#: Time-ordered ids keep the service's index small; Python has them since 3.14.
new_id = getattr(uuid, "uuid7", uuid.uuid4)
#: The label that says which backend enqueued a task.
BACKEND_LABEL = "django_backend"
#: The most that one request of many tasks holds; the service takes 10,000 tasks.
PART_TASKS = 1_000
PART_BYTES = 1 << 20
#: The keys of `TASKS[...]` that are read.
KNOWN_KEYS = {"BACKEND", "QUEUES", "OPTIONS", FORMER_KEY}


class NightshiftBackend(BaseTaskBackend):
    """Enqueues tasks in a Nightshift service, and asks it for their results."""

    task_class = Task

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    #: Whether tasks come to their end while this process waits for it.
    runs_elsewhere = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self.nightshift = Options.read(alias, params)
        self.ignored = sorted(set(params) - KNOWN_KEYS)
        # The attribute by which django-tasks before 0.10 says it.
        self.enqueue_on_commit = self.nightshift.enqueue_on_commit

    @property
    def service(self) -> Service:
        return service_of(self.nightshift)

    def validate_task(self, task: Any) -> None:
        if isinstance(task.run_after, timedelta):
            # The framework's documentation allows it, its code does not.
            task = resolve_run_after(task)
        super().validate_task(task)
        for name in CHECKS_OF_TASKS:
            if reason := problem(name, getattr(task, name, None)):
                # Named now rather than refused by the service, maybe within a commit.
                raise InvalidTask(f"The task's {name} {reason}")

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> TaskResult:
        """Hands the task to the service; it is stored there when this returns.

        Within a transaction it is handed over by the commit, unless `enqueue_on_commit` is False:
        a worker would not find rows that are not committed. Until then the result has no
        `enqueued_at`, and the service does not know its id.

        The id is chosen here, so that saying it again after a broken connection is safe.

        Raises TypeError for arguments that are not JSON, ValueError for NaN, ServiceUnavailable
        when the service does not answer within `request_timeout`. Where the commit is waited for,
        the last is raised there.
        """
        result, body = self._prepare(task, args, kwargs)
        send = partial(self._send, result, body)
        if not (self._waits_for_commit(task) and self._send_after_commit(send, [result])):
            send()
        return result

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> TaskResult:
        """As `enqueue`, without blocking the event loop."""
        result, body = self._prepare(task, args, kwargs)
        if self._waits_for_commit(task):
            send = partial(self._send, result, body)
            after_commit = partial(self._send_after_commit, send, [result])
            # Transactions belong to a thread: to this one, or to that of Django's sync code.
            if after_commit() or await sync_to_async(after_commit, thread_sensitive=True)():
                return result
        self._enqueued(result, await self.service.arequest("POST", "/tasks", body))
        await task_enqueued.asend(type(self), task_result=result)
        return result

    def enqueue_many(self, task: Any, calls: Iterable[Any]) -> list[TaskResult]:
        """Enqueues the task once for each of these calls; see `Task.enqueue_many`."""
        prepared = [self._prepare(task, *_arguments(call)) for call in calls]
        results = [result for result, _ in prepared]
        send = partial(self._send_many, prepared)
        waits = bool(prepared) and self._waits_for_commit(task)
        if not (waits and self._send_after_commit(send, results)):
            send()
        return results

    def get_result(self, result_id: str, *, wait: int = 0) -> TaskResult:
        """The task with that id; waits up to `wait` seconds (0 to 60) for its end."""
        if not isinstance(result_id, str) or not result_id:
            raise TaskResultDoesNotExist(result_id)
        try:
            record = self.service.request("GET", task_url(result_id), **_waiting(wait))
        except ServiceRefused as error:
            raise _not_found(result_id, error) from error
        return self._own(record)

    async def aget_result(self, result_id: str, *, wait: int = 0) -> TaskResult:
        """As `get_result`, without blocking the event loop."""
        if not isinstance(result_id, str) or not result_id:
            raise TaskResultDoesNotExist(result_id)
        try:
            record = await self.service.arequest("GET", task_url(result_id), **_waiting(wait))
        except ServiceRefused as error:
            raise _not_found(result_id, error) from error
        return self._own(record)

    def save_metadata(self, result_id: str, metadata: dict[str, Any]) -> None:
        """Asked for by django-tasks 0.11 only, which had metadata that a task could change."""
        raise NotImplementedError("Nightshift keeps no metadata; see set_progress()")

    def check(self, **kwargs: Any) -> Iterable[CheckMessage]:
        yield from super().check(**kwargs)
        yield from check_service(self)

    def result_of(self, record: dict[str, Any]) -> TaskResult:
        """The service's record as the framework's result."""
        module_path = self.nightshift.module_path(record["task_path"])
        task = copy_task(
            known_or_missing_task(module_path, self.alias),
            backend=self.alias,
            queue_name=record["queue_name"],
            priority=record["priority"],
            # After a failed attempt it is the time of the next one.
            run_after=parse_time(record["run_after"]),
        )
        return result_of(record, task, self.alias)

    def _own(self, record: dict[str, Any]) -> TaskResult:
        """Raises TaskResultDoesNotExist for a task of another site's namespace."""
        if not self.nightshift.owns(record["task_path"]):
            raise TaskResultDoesNotExist(record["id"])
        return self.result_of(record)

    def _prepare(self, task: Any, args: Any, kwargs: Any) -> tuple[TaskResult, bytes]:
        """The result to be, and the request for it."""
        self.validate_task(task)
        task = resolve_run_after(task)
        task_id = str(new_id())
        body = self._request(task, task_id, to_json(list(args)), to_json(kwargs))
        common = {
            "task": task,
            "id": task_id,
            "status": STATUS["READY"],
            "enqueued_at": None,
            "started_at": None,
            "finished_at": None,
            "args": list(args),
            "kwargs": kwargs,
            "backend": self.alias,
        }
        return TaskResult(**common, **empty_result_fields()), body

    def _request(self, task: Any, task_id: str, args: str, kwargs: str) -> bytes:
        options = self.nightshift

        def own(name: str) -> Any:
            value = getattr(task, name, None)
            return getattr(options, name, None) if value is None else value

        request = {
            "id": task_id,
            "task_path": options.task_path(task.module_path),
            "queue_name": task.queue_name,
            "priority": int(task.priority),
            "run_after": _instant(task.run_after),
            "expires_at": _instant(own("expires_at")),
            "timeout_seconds": own("timeout"),
            "max_attempts": own("max_attempts"),
            "backoff": own("backoff"),
            "unique_key": own("unique_key"),
            "labels": {BACKEND_LABEL: self.alias},
        }
        given = {name: value for name, value in request.items() if value is not None}
        # Spliced in as text, so that a large value is written only once.
        head = json.dumps(given, allow_nan=False)[:-1]
        return f'{head}, "args": {args}, "kwargs": {kwargs}}}'.encode()

    def _send_after_commit(self, send: Callable[[], None], results: list[TaskResult]) -> bool:
        """Sends once what this thread has begun is committed.

        False, and nothing else, where it has begun nothing.
        """
        transactions = self._open_transactions()
        if transactions:
            AfterCommit(self, partial(self._send_late, send, results), transactions)
        return bool(transactions)

    def _open_transactions(self) -> list[Any]:
        return open_transactions()

    def _send_late(self, send: Callable[[], None], results: list[TaskResult]) -> None:
        try:
            send()
        except NightshiftError:
            # The caller of the commit may not know of the tasks.
            for result in [one for one in results if one.enqueued_at is None]:
                logger.error(
                    "Task id=%s path=%s was not enqueued, though the transaction was committed",
                    result.id,
                    result.task.module_path,
                )
            raise

    def _send_many(self, prepared: list[tuple[TaskResult, bytes]]) -> None:
        for part in _parts(prepared):
            body = b'{"tasks": [' + b", ".join(body for _, body in part) + b"]}"
            answer = self.service.request("POST", "/tasks/batch", body)
            for (result, _), task_id in zip(part, answer["ids"], strict=True):
                # Another id, where a task with its unique key was there before.
                object.__setattr__(result, "id", task_id)
                object.__setattr__(result, "enqueued_at", timezone.now())
                task_enqueued.send(type(self), task_result=result)

    def _send(self, result: TaskResult, body: bytes) -> None:
        self._enqueued(result, self.service.request("POST", "/tasks", body))
        task_enqueued.send(type(self), task_result=result)

    def _enqueued(self, result: TaskResult, record: dict[str, Any]) -> None:
        stored = self.result_of(record)
        # Another id, where a task with its unique key was there before.
        for name in ("id", "enqueued_at", "status"):
            object.__setattr__(result, name, getattr(stored, name))

    def _waits_for_commit(self, task: Any) -> bool:
        own = getattr(task, "enqueue_on_commit", None)
        return self.nightshift.enqueue_on_commit if own is None else bool(own)


def nightshift_backend(alias: str) -> NightshiftBackend:
    """The backend of that alias.

    Raises InvalidTaskBackend where it is none or another one.
    """
    backend = task_backends[alias]
    if not isinstance(backend, NightshiftBackend):
        raise InvalidTaskBackend(f"Backend {alias!r} is not a Nightshift backend")
    return backend


def nightshift_backends() -> Iterator[NightshiftBackend]:
    """The backends of this site that are ours, in the order of `TASKS`."""
    for alias in task_backends:
        backend = task_backends[alias]
        if isinstance(backend, NightshiftBackend):
            yield backend


def _arguments(call: Any) -> tuple[Any, Any]:
    """The positional and the named arguments of one of many calls."""
    if isinstance(call, Mapping):
        return [], dict(call)
    if isinstance(call, (list, tuple)):
        return list(call), {}
    raise TypeError(f"a call is a list or tuple of arguments, or a dict of named ones: {call!r}")


def _parts(prepared: list[tuple[TaskResult, bytes]]) -> Iterator[list[tuple[TaskResult, bytes]]]:
    """As many tasks as one request takes."""
    part: list[tuple[TaskResult, bytes]] = []
    size = 0
    for one in prepared:
        if part and (len(part) == PART_TASKS or size + len(one[1]) > PART_BYTES):
            yield part
            part, size = [], 0
        part.append(one)
        size += len(one[1])
    if part:
        yield part


def _waiting(wait: int) -> dict[str, Any]:
    return {"params": {"wait": wait}, "wait": wait} if wait else {}


def _not_found(result_id: str, error: ServiceRefused) -> Exception:
    return TaskResultDoesNotExist(result_id) if error.code == "task_not_found" else error


def _instant(time: Any) -> str | None:
    """RFC 3339, as the service reads it."""
    if time is None:
        return None
    if timezone.is_naive(time):
        time = timezone.make_aware(time)
    return time.isoformat()
