//! Who does the work, and how it is handed over.

use super::{
    EXECUTOR, PLUGIN, TASK_ID, TOKEN, TRACEPARENT, WORKER, args, at, kwargs, labels, log_line,
    progress, ready_task, return_value, running_task,
};
use crate::{
    CancelData, CancelMessage, CancelType, ErrorReport, ExecuteData, ExecuteMessage, ExecuteType,
    Executor, ExecutorChange, ExecutorKind, ExecutorList, ExecutorRequest, FinishAnswer,
    FinishAnswers, FinishBatch, FinishEntry, FinishRequest, Grants, Lease, LeaseList, LeaseRenewal,
    LeaseRequest, MessageLease, RenewRequest, Task, TaskStatus,
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Resumes an executor and limits it.
#[must_use]
pub fn executor_change() -> ExecutorChange {
    ExecutorChange { paused: Some(false), concurrency: Some(Some(4)) }
}

/// Registers the TOM's worker.
#[must_use]
pub fn worker_request() -> ExecutorRequest {
    ExecutorRequest {
        kind: ExecutorKind::Worker,
        task_paths: vec!["myapp.tasks.*".to_owned()],
        ..ExecutorRequest::default()
    }
}

/// Registers a web application that is called.
#[must_use]
pub fn http_request() -> ExecutorRequest {
    ExecutorRequest {
        kind: ExecutorKind::Http,
        url: Some("http://127.0.0.1:9000/tasks".to_owned()),
        secret: Some(SECRET.to_owned()),
        ..worker_request()
    }
}

/// Registers a plugin.
#[must_use]
pub fn wasm_request() -> ExecutorRequest {
    ExecutorRequest {
        kind: ExecutorKind::Wasm,
        task_paths: Vec::new(),
        plugin: Some(PLUGIN.to_owned()),
        memory_mib: Some(256),
        grants: Some(Grants { directories: vec!["images".to_owned()], ..Grants::default() }),
        ..ExecutorRequest::default()
    }
}

/// The TOM's worker as it is registered.
#[must_use]
pub fn executor() -> Executor {
    Executor {
        name: EXECUTOR.to_owned(),
        kind: ExecutorKind::Worker,
        task_paths: worker_request().task_paths,
        url: None,
        echoes_task_id: false,
        plugin: None,
        plugin_digest: None,
        memory_mib: None,
        grants: None,
        concurrency: None,
        lease_seconds: 30,
        timeout_seconds: None,
        max_attempts: None,
        backoff: None,
        paused: false,
        hold: None,
        created_at: at(-3600),
        updated_at: at(-3600),
    }
}

/// All executors.
#[must_use]
pub fn executor_list() -> ExecutorList {
    ExecutorList { items: vec![executor()], next_cursor: None }
}

/// The worker asks for work.
#[must_use]
pub fn lease_request() -> LeaseRequest {
    LeaseRequest {
        worker_id: WORKER.to_owned(),
        max_tasks: Some(1),
        wait_seconds: Some(20),
        ..LeaseRequest::default()
    }
}

/// The worker gets the task.
#[must_use]
pub fn lease_list() -> LeaseList {
    let task = Task {
        last_renewed_at: Some(at(1)),
        lease_expires_at: Some(at(31)),
        progress: None,
        ..running_task()
    };
    let lease = Lease {
        token: TOKEN.to_owned(),
        attempt: 1,
        max_attempts: 3,
        expires_at: at(31),
        deadline: at(301),
        traceparent: Some(TRACEPARENT.to_owned()),
        task,
    };
    LeaseList { leases: vec![lease] }
}

/// The worker is alive.
#[must_use]
pub fn renew_request() -> RenewRequest {
    RenewRequest { progress: Some(progress()), logs: vec![log_line()] }
}

/// It has more time.
#[must_use]
pub fn lease_renewal() -> LeaseRenewal {
    LeaseRenewal { expires_at: at(41), cancel_requested: false }
}

/// The worker has finished.
#[must_use]
pub fn finish_request() -> FinishRequest {
    FinishRequest { return_value: Some(return_value()), ..FinishRequest::default() }
}

/// The same among others.
#[must_use]
pub fn finish_batch() -> FinishBatch {
    FinishBatch { results: vec![FinishEntry::new(TOKEN, finish_request())] }
}

/// What became of it.
#[must_use]
pub fn finish_answers() -> FinishAnswers {
    let answer = FinishAnswer {
        token: TOKEN.to_owned(),
        status: Some(TaskStatus::Successful),
        problem: None,
    };
    FinishAnswers { results: vec![answer] }
}

fn message_lease() -> MessageLease {
    let url = format!("http://127.0.0.1:8700/leases/{TOKEN}");
    MessageLease { token: TOKEN.to_owned(), url }
}

/// What an executor of kind `http` is sent.
#[must_use]
pub fn execute_message() -> ExecuteMessage {
    let task = ready_task();
    ExecuteMessage {
        message_type: ExecuteType::Execute,
        timestamp: at(1),
        data: ExecuteData {
            task_id: TASK_ID,
            task_path: task.task_path,
            args: args(),
            kwargs: kwargs(),
            attempt: 1,
            max_attempts: task.max_attempts,
            queue_name: task.queue_name,
            priority: task.priority,
            labels: labels(),
            enqueued_at: task.enqueued_at,
            deadline: at(301),
            lease: message_lease(),
        },
    }
}

/// What it is sent when the attempt is not wanted any more.
#[must_use]
pub fn cancel_message() -> CancelMessage {
    CancelMessage {
        message_type: CancelType::Cancel,
        timestamp: at(12),
        data: CancelData { task_id: TASK_ID, attempt: 1, lease: message_lease() },
    }
}

/// What it may answer instead of a return value.
#[must_use]
pub fn error_report() -> ErrorReport {
    ErrorReport {
        exception_class_path: Some("builtins.FileNotFoundError".to_owned()),
        message: Some("m31.fits".to_owned()),
        traceback: None,
        retryable: Some(false),
    }
}
