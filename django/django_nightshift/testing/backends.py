"""Backends that need no service and no worker."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.sync import sync_to_async
from django.dispatch import receiver
from django.test.signals import setting_changed

from ..backend import NightshiftBackend
from ..context import TaskLogHandler
from ..execute import execute
from ..results import TaskResult
from ..transactions import open_transactions
from .memory import Entry, MemoryService

#: By alias, for all threads: a live server's tasks are run by the test.
_memories: dict[str, MemoryService] = {}


class DummyBackend(NightshiftBackend):
    """Keeps tasks in memory, for `run_tasks()` or for a look at `results`.

    Takes all that NightshiftBackend takes. Tasks that wait for the commit of a transaction are
    kept once it has come; the transaction of a TestCase itself is none to wait for.
    """

    runs_elsewhere = False

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self.memory = _memories.setdefault(alias, MemoryService())

    @property
    def service(self) -> Any:
        return self.memory

    @property
    def results(self) -> list[TaskResult]:
        """All tasks, in the order in which they were enqueued."""
        return [self.get_result(entry.record["id"]) for entry in self.memory.entries()]

    def clear(self) -> None:
        """Forgets all tasks. Those of a TestCase are forgotten with its end."""
        self.memory.clear()

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> TaskResult:
        # In the thread where the test has its database.
        return await sync_to_async(self.enqueue, thread_sensitive=True)(task, args, kwargs)

    def result_of(self, record: dict[str, Any]) -> TaskResult:
        result = super().result_of(record)
        task = self.memory.entry(record["id"]).task
        if task is not None:
            object.__setattr__(result, "task", task)
        return result

    def run(self, entry: Entry) -> None:
        """Runs a waiting task here and now, as often as it may be tried."""
        while entry.record["status"] == "READY":
            if entry.is_expired:
                self.memory.expire(entry)
            else:
                self._attempt(entry)

    def _attempt(self, entry: Entry) -> None:
        self.memory.begin(entry, worker_id=self.nightshift.executor)
        record = self.service.request("GET", f"/tasks/{entry.record['id']}")
        with _logs_going_along():
            outcome = execute(self, record, _Reporter(self.memory, entry))
        value = None if outcome.return_value is None else json.loads(outcome.return_value)
        self.memory.finish(entry, value, outcome.error)
        if outcome.error and outcome.error["exception_class_path"] == "builtins.KeyboardInterrupt":
            # The person before the terminal means the tests.
            raise KeyboardInterrupt

    def _open_transactions(self) -> list[Any]:
        return [
            connection
            for connection in open_transactions()
            if not all(block._from_testcase for block in connection.atomic_blocks)
        ]

    def _enqueued(self, result: TaskResult, record: dict[str, Any]) -> None:
        entry = self.memory.entry(record["id"])
        entry.task = entry.task or result.task
        super()._enqueued(result, record)

    def _send_many(self, prepared: list[tuple[TaskResult, bytes]]) -> None:
        super()._send_many(prepared)
        for result, _ in prepared:
            entry = self.memory.entry(result.id)
            entry.task = entry.task or result.task


class ImmediateBackend(DummyBackend):
    """Runs each task as soon as it is enqueued, and returns it with its end.

    A task with a `run_after` that is yet to come is kept for `run_tasks()`.
    """

    def _send(self, result: TaskResult, body: bytes) -> None:
        super()._send(result, body)
        self._run_now(result)

    def _send_many(self, prepared: list[tuple[TaskResult, bytes]]) -> None:
        super()._send_many(prepared)
        for result, _ in prepared:
            self._run_now(result)

    def _run_now(self, result: TaskResult) -> None:
        entry = self.memory.entry(result.id)
        if entry.is_due:
            self.run(entry)
        result.refresh()


class _Reporter:
    """Keeps what a running task says."""

    def __init__(self, memory: MemoryService, entry: Entry) -> None:
        self.memory = memory
        self.entry = entry

    def begin(self) -> None:
        pass

    def end(self) -> None:
        pass

    def progress(self, fraction: float | None, message: str | None) -> None:
        self.entry.record["progress"] = {"fraction": fraction, "message": message}

    def log(self, line: dict[str, str]) -> None:
        self.memory.add_line(self.entry, line)

    def cancelled(self) -> bool:
        return bool(self.entry.record["cancel_requested_at"])


@contextmanager
def _logs_going_along() -> Iterator[None]:
    """Within the block, what tasks log is kept with them."""
    root = logging.getLogger()
    if any(isinstance(handler, TaskLogHandler) for handler in root.handlers):
        yield
        return
    handler = TaskLogHandler()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


@receiver(setting_changed)
def _forget(setting: str, **_: Any) -> None:
    """Other settings, other tasks."""
    if setting == "TASKS":
        _memories.clear()
