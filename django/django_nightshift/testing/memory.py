"""Tasks in this process's memory, asked as the service is."""

import copy
import json
import re
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from django.db import connections

from ..exceptions import ServiceRefused

#: As many lines of its log as the service keeps.
LOG_LINES_MAX = 10_000


class Entry:
    """A task, and what the service's record of it does not say."""

    def __init__(self, number: int, record: dict[str, Any]) -> None:
        self.number = number
        self.record = record
        #: The task object that was enqueued, with its options.
        self.task: Any = None
        self.logs: list[dict[str, Any]] = []
        self.dropped = 0
        self.test = _running_test()

    def is_of_a_test_that_has_ended(self) -> bool:
        """The rows that it is about were rolled back with the test."""
        if self.test is None:
            return False
        connection, block = self.test
        return all(one is not block for one in connection.atomic_blocks)

    @property
    def due_at(self) -> datetime:
        return datetime.fromisoformat(self.record["run_after"] or self.record["enqueued_at"])

    @property
    def is_due(self) -> bool:
        return self.due_at <= datetime.now(timezone.utc)

    @property
    def is_expired(self) -> bool:
        expires_at = self.record["expires_at"]
        return bool(expires_at) and datetime.fromisoformat(expires_at) <= datetime.now(timezone.utc)

    @property
    def order(self) -> tuple[int, datetime, int]:
        """By which the service deals tasks out."""
        return -self.record["priority"], self.due_at, self.number


class MemoryService:
    """Answers the requests that a backend and its results make, out of this process's memory."""

    url = "memory:"

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._entries: dict[str, Entry] = {}
        #: Those of them that have not ended.
        self._live: dict[str, Entry] = {}
        self._count = 0

    def request(self, method: str, path: str, body: Any = None, **_how: Any) -> Any:
        """As the service's client does; the answer is the caller's own."""
        with self.lock:
            for route_method, pattern, answer in self._routes():
                match = re.fullmatch(pattern, path)
                if match and method == route_method:
                    return copy.deepcopy(answer(*match.groups(), *([body] if body else [])))
        raise ServiceRefused(404, "not_found", f"backends for tests do not know {method} {path}")

    async def arequest(self, method: str, path: str, body: Any = None, **how: Any) -> Any:
        return self.request(method, path, body, **how)

    def _routes(self) -> list[tuple[str, str, Callable[..., Any]]]:
        return [
            ("POST", "/tasks", self._enqueue),
            ("POST", "/tasks/batch", self._enqueue_many),
            ("GET", "/tasks/([^/]+)", lambda task_id: self.entry(task_id).record),
            ("POST", "/tasks/([^/]+)/cancel", self._cancel),
            ("GET", "/tasks/([^/]+)/logs", self._logs),
            ("GET", r"/queues\?limit=1", lambda: {"items": [], "next_cursor": None}),
        ]

    def entries(self) -> list[Entry]:
        """The tasks of the test that runs, in the order in which they were enqueued."""
        with self.lock:
            return self._of_this_test(self._entries)

    def waiting(self) -> list[Entry]:
        """Those of them that wait to be run."""
        with self.lock:
            live = self._of_this_test(self._live)
            return [entry for entry in live if entry.record["status"] == "READY"]

    def entry(self, task_id: str) -> Entry:
        """Raises ServiceRefused where there is no such task."""
        with self.lock:
            entry = self._entries.get(task_id)
            if entry is None or entry.is_of_a_test_that_has_ended():
                raise ServiceRefused(404, "task_not_found", "there is no such task")
            return entry

    def clear(self) -> None:
        with self.lock:
            self._entries.clear()
            self._live.clear()

    def _of_this_test(self, entries: dict[str, Entry]) -> list[Entry]:
        """Forgets the others."""
        for task_id, entry in list(entries.items()):
            if entry.is_of_a_test_that_has_ended():
                del entries[task_id]
        return list(entries.values())

    def begin(self, entry: Entry, worker_id: str) -> None:
        """An attempt begins."""
        now = _now()
        with self.lock:
            record = entry.record
            record["status"] = "RUNNING"
            record["started_at"] = record["started_at"] or now
            record["last_attempted_at"] = now
            record["attempts"] += 1
            record["worker_ids"].append(worker_id)

    def finish(self, entry: Entry, value: Any, error: dict[str, Any] | None) -> None:
        """An attempt has ended; it is tried again at once if attempts are left."""
        with self.lock:
            record = entry.record
            if record["cancel_requested_at"]:
                self._end(record, "CANCELLED", "cancelled", "the task was cancelled")
            elif error is None:
                record["return_value"] = value
                self._end(record, "SUCCESSFUL")
            else:
                left = record["attempts"] < record["max_attempts"] and error.get("retryable", True)
                self._add_error(record, "exception", **error)
                if left:
                    record["status"] = "READY"
                else:
                    self._end(record, "FAILED")

    def expire(self, entry: Entry) -> None:
        """The task is too old to be begun."""
        with self.lock:
            self._end(entry.record, "FAILED", "expired", "the task had not started when it expired")

    def _enqueue(self, body: bytes) -> dict[str, Any]:
        return self._add(json.loads(body))[0].record

    def _enqueue_many(self, body: bytes) -> dict[str, Any]:
        ids, existing = [], []
        for index, request in enumerate(json.loads(body)["tasks"]):
            entry, is_new = self._add(request)
            ids.append(entry.record["id"])
            if not is_new:
                existing.append(index)
        return {"ids": ids, "existing": existing}

    def _add(self, request: dict[str, Any]) -> tuple[Entry, bool]:
        """The task of that request, and whether it was not there before."""
        key = request.get("unique_key")
        if request["id"] in self._entries:
            return self._entries[request["id"]], False
        for entry in self._of_this_test(self._live) if key else ():
            if entry.record["unique_key"] == key:
                return entry, False
        self._count += 1
        entry = Entry(self._count, {**_new_record(), **request})
        self._entries[request["id"]] = self._live[request["id"]] = entry
        return entry, True

    def _cancel(self, task_id: str) -> dict[str, Any]:
        record = self.entry(task_id).record
        if record["status"] in ("SUCCESSFUL", "FAILED"):
            raise ServiceRefused(409, "task_finished", "the task has ended")
        record["cancel_requested_at"] = record["cancel_requested_at"] or _now()
        if record["status"] == "READY":
            self._end(record, "CANCELLED", "cancelled", "the task was cancelled")
        return record

    def _logs(self, task_id: str) -> dict[str, Any]:
        entry = self.entry(task_id)
        return {"items": entry.logs, "next_cursor": None, "dropped": entry.dropped}

    def add_line(self, entry: Entry, line: dict[str, str]) -> None:
        with self.lock:
            entry.logs.append({**line, "attempt": entry.record["attempts"]})
            if len(entry.logs) > LOG_LINES_MAX:
                del entry.logs[0]
                entry.dropped += 1

    def _end(self, record: dict[str, Any], status: str, kind: str = "", message: str = "") -> None:
        if kind:
            self._add_error(record, kind, message=message)
        record["status"] = status
        record["finished_at"] = _now()
        self._live.pop(record["id"], None)

    def _add_error(self, record: dict[str, Any], kind: str, **error: Any) -> None:
        own = {"exception_class_path": None, "traceback": None, **error}
        record["errors"].append({**own, "kind": kind, "attempt": record["attempts"], "at": _now()})


def _new_record() -> dict[str, Any]:
    """What a record says of a task beside what its request says."""
    nothing = (
        "run_after",
        "expires_at",
        "unique_key",
        "started_at",
        "last_attempted_at",
        "finished_at",
        "progress",
        "cancel_requested_at",
        "return_value",
    )
    return {
        **dict.fromkeys(nothing),
        "status": "READY",
        "enqueued_at": _now(),
        "attempts": 0,
        "max_attempts": 1,
        "worker_ids": [],
        "errors": [],
    }


def _running_test() -> tuple[Any, Any] | None:
    """The transaction that a TestCase has begun around its test."""
    for connection in connections.all(initialized_only=True):
        for block in reversed(connection.atomic_blocks):
            if block._from_testcase:
                return connection, block
    return None


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()
