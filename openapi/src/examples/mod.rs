//! The values that the document shows, made by code so that they are what the service would say.
//!
//! They tell one story: a TOM enqueues the work of extracting the sources of an image, its worker
//! takes it and finishes.

mod service;
mod work;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::{Uuid, uuid};

pub use self::{service::*, work::*};
use crate::{
    Backoff, Explanation, Json, LogLevel, LogLine, LogLineRequest, LogList, Progress, Reason,
    ReasonCode, Task, TaskBatch, TaskEvent, TaskEventType, TaskIds, TaskList, TaskRequest,
    TaskResult, TaskState, TaskStatus, TaskSummary, Timestamp,
};

/// The task of the story.
pub const TASK_ID: Uuid = uuid!("01a2119f-a970-7b43-9d0f-5a2f3c1b9e10");
/// The lease under which the worker runs it.
pub const TOKEN: &str = "0000000000001267b1946ac92492d2347c6235b4d2611184";
/// The executor that serves it.
pub const EXECUTOR: &str = "tom";
/// A plugin that could do the same.
pub const PLUGIN: &str = "source-extraction";
/// Where the task waits.
pub const QUEUE: &str = "images";
/// `next_cursor` of a list of tasks.
pub const CURSOR: &str = "AAAAAAAAEmc";

/// `id` of an event of all tasks.
pub const EVENT_ID: &str = "4711";
/// `id` of an event of the task.
pub const TASK_EVENT_ID: &str = "2.0.0";

const WORKER: &str = "tom-1.4711";
const PATH: &str = "myapp.tasks.extract_sources";
/// The trace that the request belonged to.
pub const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// So many seconds after the task was enqueued.
fn at(seconds: i64) -> Timestamp {
    const ENQUEUED_AT: i64 = 1_795_592_006;
    jiff::Timestamp::constant(ENQUEUED_AT + seconds, 0).into()
}

fn text(json: &Value) -> Json {
    Json::from_text(json.to_string()).expect("a value is written as JSON")
}

fn args() -> Json {
    text(&json!(["m31.fits"]))
}

fn kwargs() -> Json {
    text(&json!({"threshold": 5}))
}

fn return_value() -> Json {
    text(&json!({"sources": 1204}))
}

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("target".to_owned(), "m31".to_owned())])
}

fn backoff() -> Backoff {
    Backoff {
        initial_seconds: Some(5.0),
        factor: Some(2.0),
        max_seconds: Some(3600.0),
        jitter: Some(0.2),
    }
}

fn progress() -> Progress {
    Progress { fraction: Some(0.4), message: Some("2 of 5 images".to_owned()) }
}

/// The beginning of the worker's attempt.
#[must_use]
pub fn started_event() -> TaskEvent {
    TaskEvent {
        event_type: TaskEventType::Started,
        task_id: TASK_ID,
        task_path: PATH.to_owned(),
        queue_name: QUEUE.to_owned(),
        status: TaskStatus::Running,
        attempt: 1,
        at: at(1),
        run_after: None,
        worker_id: Some(WORKER.to_owned()),
        progress: None,
        logs: Vec::new(),
        error: None,
    }
}

/// The same as a reader of events gets it, with its id.
#[must_use]
pub fn event_stream(id: &str) -> String {
    let event = started_event();
    let data = json!(event);
    format!("event: {}\nid: {id}\ndata: {data}\n\n", event.event_type)
}

/// What the TOM enqueues.
#[must_use]
pub fn task_request() -> TaskRequest {
    TaskRequest {
        args: Some(args()),
        kwargs: Some(kwargs()),
        queue_name: Some(QUEUE.to_owned()),
        labels: labels(),
        ..TaskRequest::new(PATH)
    }
}

/// The same as part of a batch.
#[must_use]
pub fn task_batch() -> TaskBatch {
    TaskBatch { tasks: vec![task_request()] }
}

/// The same batch, a task a line.
#[must_use]
pub fn task_lines() -> String {
    text(&json!(task_request())).into_text() + "\n"
}

/// The ids of the batch.
#[must_use]
pub fn task_ids() -> TaskIds {
    TaskIds { ids: vec![TASK_ID], existing: Vec::new() }
}

/// The record of the task while it waits.
#[must_use]
pub fn ready_task() -> Task {
    Task {
        id: TASK_ID,
        status: TaskStatus::Ready,
        task_path: PATH.to_owned(),
        args: args(),
        kwargs: kwargs(),
        queue_name: QUEUE.to_owned(),
        priority: 0,
        run_after: None,
        expires_at: None,
        timeout_seconds: 300.0,
        max_attempts: 3,
        backoff: backoff(),
        labels: labels(),
        unique_key: None,
        executor: Some(EXECUTOR.to_owned()),
        attempts: 0,
        deliveries: 0,
        worker_ids: Vec::new(),
        enqueued_at: at(0),
        started_at: None,
        last_attempted_at: None,
        finished_at: None,
        last_renewed_at: None,
        lease_expires_at: None,
        progress: None,
        cancel_requested_at: None,
        return_value: None,
        errors: Vec::new(),
        errors_dropped: 0,
    }
}

/// The record while the worker runs it.
#[must_use]
pub fn running_task() -> Task {
    Task {
        status: TaskStatus::Running,
        attempts: 1,
        deliveries: 1,
        worker_ids: vec![WORKER.to_owned()],
        started_at: Some(at(1)),
        last_attempted_at: Some(at(1)),
        last_renewed_at: Some(at(11)),
        lease_expires_at: Some(at(41)),
        progress: Some(progress()),
        ..ready_task()
    }
}

/// The record once the worker has finished.
#[must_use]
pub fn successful_task() -> Task {
    Task {
        status: TaskStatus::Successful,
        finished_at: Some(at(21)),
        last_renewed_at: None,
        lease_expires_at: None,
        return_value: Some(return_value()),
        ..running_task()
    }
}

/// The record of the running task after somebody asked to cancel it.
#[must_use]
pub fn cancelling_task() -> Task {
    Task { cancel_requested_at: Some(at(12)), ..running_task() }
}

/// The record had it been cancelled while it waited.
#[must_use]
pub fn cancelled_task() -> Task {
    Task {
        status: TaskStatus::Cancelled,
        cancel_requested_at: Some(at(1)),
        finished_at: Some(at(1)),
        ..ready_task()
    }
}

/// A page with the finished task.
#[must_use]
pub fn task_list() -> TaskList {
    let task = successful_task();
    let summary = TaskSummary {
        id: task.id,
        status: task.status,
        task_path: task.task_path,
        queue_name: task.queue_name,
        priority: task.priority,
        run_after: task.run_after,
        labels: task.labels,
        executor: task.executor,
        attempts: task.attempts,
        enqueued_at: task.enqueued_at,
        started_at: task.started_at,
        finished_at: task.finished_at,
    };
    TaskList { items: vec![summary], next_cursor: Some(CURSOR.to_owned()) }
}

/// Where the running task is.
#[must_use]
pub fn task_state() -> TaskState {
    let task = running_task();
    TaskState {
        id: task.id,
        status: task.status,
        attempts: task.attempts,
        progress: task.progress,
        enqueued_at: task.enqueued_at,
        run_after: task.run_after,
        started_at: task.started_at,
        last_attempted_at: task.last_attempted_at,
        last_renewed_at: task.last_renewed_at,
        lease_expires_at: task.lease_expires_at,
        cancel_requested_at: task.cancel_requested_at,
        finished_at: task.finished_at,
    }
}

/// How a task ended, or that it has not.
#[must_use]
pub fn task_result(task: Task) -> TaskResult {
    let Task { id, status, return_value, errors, errors_dropped, finished_at, .. } = task;
    TaskResult { id, status, return_value, errors, errors_dropped, finished_at }
}

/// Why the waiting task does not run.
#[must_use]
pub fn explanation() -> Explanation {
    let reason = Reason {
        code: ReasonCode::BehindOthers,
        detail: "3 tasks of its executor come first".to_owned(),
        executor: Some(EXECUTOR.to_owned()),
        until: None,
        count: Some(3),
    };
    Explanation { id: TASK_ID, status: TaskStatus::Ready, reasons: vec![reason] }
}

/// The task's log.
#[must_use]
pub fn log_list() -> LogList {
    let LogLineRequest { level, message, .. } = log_line();
    let line = LogLine { at: at(11), level, attempt: 1, message };
    LogList { items: vec![line], next_cursor: None, dropped: 0 }
}

fn log_line() -> LogLineRequest {
    LogLineRequest {
        at: Some(at(11)),
        level: LogLevel::Info,
        message: "m31.fits: 482 sources so far".to_owned(),
    }
}
