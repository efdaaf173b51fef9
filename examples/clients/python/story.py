"""What one does with Nightshift, by the client that openapi-python-client makes."""

import os
import uuid
from datetime import UTC, datetime, timedelta
from typing import cast

from nightshift_api import AuthenticatedClient, Client
from nightshift_api.api.executors import get_executor, put_executor
from nightshift_api.api.leases import finish_lease, lease_tasks, renew_lease
from nightshift_api.api.tasks import (
    cancel_task,
    create_task,
    get_task,
    get_task_logs,
    get_task_result,
    list_tasks,
)
from nightshift_api.models import (
    ErrorReport,
    Executor,
    ExecutorKind,
    FinishRequest,
    Kwargs,
    Labels,
    Lease,
    LeaseList,
    LeaseRenewal,
    LeaseRequest,
    LogList,
    Problem,
    RenewRequest,
    Task,
    TaskErrorKind,
    TaskList,
    TaskRequest,
    TaskResult,
    TaskStatus,
    WorkerExecutorRequest,
    WorkerExecutorRequestKind,
)

server = os.environ["NIGHTSHIFT_SERVER"]
token = os.environ.get("NIGHTSHIFT_TOKEN")
label = f"python-{uuid.uuid4()}"


def connect(token: str | None) -> AuthenticatedClient:
    if token:
        return AuthenticatedClient(base_url=server, token=token)
    # The generated functions take a client without a token as well; their annotations forbid it.
    return cast("AuthenticatedClient", Client(base_url=server))


client = connect(token)


def request(path: str, *args: str, run_after: datetime | None = None) -> TaskRequest:
    return TaskRequest(
        task_path=path,
        args=list(args),
        kwargs=Kwargs.from_dict({"language": "python"}),
        labels=Labels.from_dict({"story": label}),
        run_after=run_after,
        max_attempts=1,
    )


def register() -> None:
    body = WorkerExecutorRequest(
        kind=WorkerExecutorRequestKind.WORKER, task_paths=[f"clients.{label}.*"], lease_seconds=60
    )
    registered = put_executor.sync(label, client=client, body=body)
    assert isinstance(registered, Executor)
    assert registered == get_executor.sync(label, client=client)
    assert (registered.kind, registered.hold) == (ExecutorKind.WORKER, None)


def enqueue_and_wait() -> None:
    task = create_task.sync(client=client, body=request("clients.count", "a galaxy", "far away"))
    assert isinstance(task, Task)
    assert (task.status, task.args) == (TaskStatus.READY, ["a galaxy", "far away"])
    result = get_task_result.sync(task.id, client=client, wait=30)
    assert isinstance(result, TaskResult)
    assert result.status is TaskStatus.SUCCESSFUL
    assert result.return_value == {"words": 4, "language": "python"}
    record = get_task.sync(task.id, client=client)
    assert isinstance(record, Task)
    assert record.attempts == 1
    assert len(record.worker_ids) == 1
    assert record.started_at is not None
    assert record.started_at >= record.enqueued_at


def fail() -> None:
    answer = create_task.sync_detailed(
        client=client, body=request("clients.unknown"), prefer="wait=30"
    )
    task = answer.parsed
    assert isinstance(task, Task)
    assert answer.headers["Location"] == f"/tasks/{task.id}"
    assert task.status is TaskStatus.FAILED
    assert [error.kind for error in task.errors] == [TaskErrorKind.EXCEPTION]
    assert "exit status 1" in task.errors[0].message
    logs = get_task_logs.sync(task.id, client=client)
    assert isinstance(logs, LogList)
    assert logs.dropped == 0


def cancel() -> uuid.UUID:
    later = datetime.now(UTC) + timedelta(days=1)
    task = create_task.sync(client=client, body=request("clients.count", run_after=later))
    assert isinstance(task, Task)
    assert task.run_after == later
    cancelled = cancel_task.sync_detailed(task.id, client=client)
    assert cancelled.status_code == 200
    assert isinstance(cancelled.parsed, Task)
    assert cancelled.parsed.status is TaskStatus.CANCELLED
    return task.id


def refuse(ended: uuid.UUID) -> None:
    again = cancel_task.sync(ended, client=client)
    assert isinstance(again, Task)
    assert again.status is TaskStatus.CANCELLED
    unknown = get_task.sync_detailed(uuid.uuid4(), client=client)
    assert unknown.status_code == 404
    assert isinstance(unknown.parsed, Problem)
    assert unknown.parsed.code == "task_not_found"
    body = request("clients.count")
    body.priority = 101
    refused = create_task.sync(client=client, body=body)
    assert isinstance(refused, Problem)
    assert (refused.code, refused.pointer) == ("invalid_field", "/priority")


def keep_out(task_id: uuid.UUID) -> None:
    kept_out = get_task.sync(task_id, client=connect("wrong"))
    assert isinstance(kept_out, Problem)
    assert kept_out.code == "unauthorized"


def repeat() -> None:
    first = create_task.sync_detailed(
        client=client, body=request("clients.count", "once"), idempotency_key=label
    )
    second = create_task.sync_detailed(
        client=client, body=request("clients.count", "once"), idempotency_key=label
    )
    assert (first.status_code, second.status_code) == (201, 200)
    assert isinstance(first.parsed, Task)
    assert isinstance(second.parsed, Task)
    assert first.parsed.id == second.parsed.id
    other = create_task.sync(
        client=client, body=request("clients.count", "twice"), idempotency_key=label
    )
    assert isinstance(other, Problem)
    assert other.code == "idempotency_mismatch"


def work() -> None:
    paths = [f"clients.{label}.{name}" for name in ("silent", "broken", "endless")]
    for path in paths:
        assert isinstance(create_task.sync(client=client, body=request(path)), Task)
    wanted = LeaseRequest(worker_id=label, max_tasks=3, wait_seconds=30)
    leased = lease_tasks.sync(label, client=client, body=wanted)
    assert isinstance(leased, LeaseList)
    assert [lease.task.task_path for lease in leased.leases] == paths
    silent, broken, endless = leased.leases

    record = finish(silent, FinishRequest(return_value=None))
    assert (record.status, record.return_value) == (TaskStatus.SUCCESSFUL, None)

    record = finish(broken, FinishRequest(error=ErrorReport(message="no such galaxy")))
    assert (record.status, record.attempts) == (TaskStatus.FAILED, 1)
    assert [error.message for error in record.errors] == ["no such galaxy"]

    asked = cancel_task.sync_detailed(endless.task.id, client=client)
    assert asked.status_code == 202
    renewal = renew_lease.sync(endless.token, client=client, body=RenewRequest())
    assert isinstance(renewal, LeaseRenewal)
    assert renewal.cancel_requested
    record = finish(endless, FinishRequest(cancelled=True))
    assert record.status is TaskStatus.CANCELLED


def finish(lease: Lease, end: FinishRequest) -> Task:
    answer = finish_lease.sync(lease.token, client=client, body=end)
    record = get_task.sync(lease.task.id, client=client)
    assert isinstance(record, Task)
    assert answer == record
    return record


def read_pages() -> None:
    enqueued = [create_task.sync(client=client, body=request("clients.count")) for _ in range(5)]
    newest_first = [task.id for task in reversed(enqueued) if isinstance(task, Task)]
    seen: list[uuid.UUID] = []
    pages = 0
    page = list_tasks.sync(client=client, label=f"story={label}", limit=3)
    while True:
        assert isinstance(page, TaskList)
        seen += [task.id for task in page.items]
        pages += 1
        if page.next_cursor is None:
            break
        page = list_tasks.sync(
            client=client, label=f"story={label}", limit=3, cursor=page.next_cursor
        )
    # The first, failed, cancelled and repeated one and three leased ones came before these.
    assert (pages, len(seen), len(set(seen))) == (4, 12, 12)
    assert seen[:5] == newest_first


register()
enqueue_and_wait()
fail()
ended = cancel()
refuse(ended)
# A service without tokens lets everybody in.
if token:
    keep_out(ended)
repeat()
work()
read_pages()
print("python: the story is told")
