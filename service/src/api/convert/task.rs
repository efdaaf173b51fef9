//! Tasks: requests to enqueue them, and their records.

use std::sync::Arc;

use nightshift_openapi as wire;
use nightshift_openapi::ErrorCode;

use super::{json, options, wire_backoff};
use crate::{
    access::Caller,
    api::{Error, State},
    domain::{
        Invalid, Timestamp,
        attempt::{FailureKind, Progress, RecordedFailure},
        json::JsonText,
        names::QueueName,
        state::Stage,
        task::{self, Content, NewTask, Repeat, Task, TaskId, TaskSummary},
        token::Scope,
    },
};

/// The parts of a request to enqueue that do not come from its body.
#[derive(Debug, Default)]
pub(in crate::api) struct Said {
    pub(in crate::api) idempotency_key: Option<String>,
    pub(in crate::api) traceparent: Option<String>,
    /// The queues to which the caller is bound. `None`: it is not bound.
    pub(in crate::api) visible: Option<Arc<[QueueName]>>,
}

pub(in crate::api) fn new_task(
    state: &State,
    request: wire::TaskRequest,
    said: Said,
) -> Result<NewTask, Error> {
    let id_chosen = request.id.is_some();
    let id = request.id.map_or_else(|| state.entropy.task_id(state.clock.now()), TaskId);
    Ok(NewTask {
        id,
        content: content(request)?,
        repeat: Repeat::new(id_chosen, said.idempotency_key),
        traceparent: said.traceparent,
        visible: said.visible,
    })
}

pub(in crate::api) fn content(request: wire::TaskRequest) -> Result<Content, Error> {
    Ok(Content {
        task_path: request.task_path.parse()?,
        args: json_of_kind(request.args, "args", '[')?.unwrap_or_else(JsonText::empty_array),
        kwargs: json_of_kind(request.kwargs, "kwargs", '{')?.unwrap_or_else(JsonText::empty_object),
        queue_name: match request.queue_name {
            Some(name) => name.parse()?,
            None => QueueName::default_queue(),
        },
        priority: request.priority.map_or(Ok(0), task::priority)?,
        run_after: request.run_after.map(Timestamp::from),
        expires_at: request.expires_at.map(Timestamp::from),
        options: options(request.timeout_seconds, request.max_attempts, request.backoff)?,
        labels: task::labels(request.labels)?,
        unique_key: request.unique_key.map(|key| task::key("unique_key", key)).transpose()?,
    })
}

fn json_of_kind(
    value: Option<wire::Json>,
    field: &'static str,
    opening: char,
) -> Result<Option<JsonText>, Error> {
    let Some(value) = value else {
        return Ok(None);
    };
    if !value.as_str().starts_with(opening) {
        let kind = if opening == '[' { "must be an array" } else { "must be an object" };
        return Err(Invalid::new(field, kind).into());
    }
    json(&value, field).map(Some)
}

pub(in crate::api) fn wire_status(stage: Stage) -> wire::TaskStatus {
    match stage {
        Stage::Scheduled | Stage::Available => wire::TaskStatus::Ready,
        Stage::Running => wire::TaskStatus::Running,
        Stage::Successful => wire::TaskStatus::Successful,
        Stage::Failed => wire::TaskStatus::Failed,
        Stage::Cancelled => wire::TaskStatus::Cancelled,
    }
}

pub(in crate::api) fn wire_json(text: &JsonText) -> Result<wire::Json, Error> {
    wire::Json::from_text(text.as_str().to_owned()).map_err(|_error| {
        Error::new(ErrorCode::Internal, "the database holds text that is not JSON")
    })
}

pub(in crate::api) fn wire_progress(progress: Progress) -> wire::Progress {
    wire::Progress { fraction: progress.fraction, message: progress.message }
}

pub(in crate::api) fn wire_error(recorded: RecordedFailure) -> wire::TaskError {
    let RecordedFailure { attempt, failure, at } = recorded;
    wire::TaskError {
        attempt,
        kind: match failure.kind {
            FailureKind::Exception => wire::TaskErrorKind::Exception,
            FailureKind::Timeout => wire::TaskErrorKind::Timeout,
            FailureKind::Lost => wire::TaskErrorKind::Lost,
            FailureKind::Rejected => wire::TaskErrorKind::Rejected,
            FailureKind::Expired => wire::TaskErrorKind::Expired,
            FailureKind::Cancelled => wire::TaskErrorKind::Cancelled,
            FailureKind::Unreachable => wire::TaskErrorKind::Unreachable,
            FailureKind::Trap => wire::TaskErrorKind::Trap,
        },
        exception_class_path: failure.exception_class_path,
        message: failure.message,
        traceback: failure.traceback,
        at: at.into(),
    }
}

pub(in crate::api) fn wire_task(task: Task) -> Result<wire::Task, Error> {
    let Task { content, times, terms, .. } = task;
    Ok(wire::Task {
        id: task.id.0,
        status: wire_status(task.stage),
        args: wire_json(&content.args)?,
        kwargs: wire_json(&content.kwargs)?,
        task_path: content.task_path.as_str().to_owned(),
        queue_name: content.queue_name.as_str().to_owned(),
        priority: content.priority,
        run_after: content.run_after.map(Into::into),
        expires_at: content.expires_at.map(Into::into),
        timeout_seconds: terms.timeout.as_secs_f64(),
        max_attempts: terms.max_attempts,
        backoff: wire_backoff(terms.backoff),
        labels: content.labels,
        unique_key: content.unique_key,
        executor: task.executor.map(|name| name.as_str().to_owned()),
        attempts: task.attempts,
        deliveries: task.deliveries,
        worker_ids: task.worker_ids,
        enqueued_at: times.enqueued_at.into(),
        started_at: times.started_at.map(Into::into),
        last_attempted_at: times.last_attempted_at.map(Into::into),
        finished_at: times.finished_at.map(Into::into),
        last_renewed_at: task.lease.map(|lease| lease.renewed_at.into()),
        lease_expires_at: task.lease.map(|lease| lease.expires_at.into()),
        progress: task.progress.map(wire_progress),
        cancel_requested_at: times.cancel_requested_at.map(Into::into),
        return_value: task.return_value.as_ref().map(wire_json).transpose()?,
        errors: task.errors.into_iter().map(wire_error).collect(),
        errors_dropped: task.errors_dropped,
    })
}

/// The record as far as the caller may see it. A caller without the scope `read` sees the task's
/// state, but neither arguments nor results nor errors.
pub(in crate::api) fn shown_to(caller: &Caller, mut task: Task) -> Task {
    if !caller.may(Scope::Read) {
        task.content.args = JsonText::empty_array();
        task.content.kwargs = JsonText::empty_object();
        task.progress = None;
        task.return_value = None;
        task.errors = Vec::new();
    }
    task
}

pub(in crate::api) fn wire_summary(task: TaskSummary) -> wire::TaskSummary {
    wire::TaskSummary {
        id: task.id.0,
        status: wire_status(task.stage),
        task_path: task.task_path,
        queue_name: task.queue_name,
        priority: task.priority,
        run_after: (task.due_at != task.enqueued_at).then(|| task.due_at.into()),
        labels: task.labels,
        executor: task.executor,
        attempts: task.attempts,
        enqueued_at: task.enqueued_at.into(),
        started_at: task.started_at.map(Into::into),
        finished_at: task.finished_at.map(Into::into),
    }
}
