//! Between the wire and the domain.

use std::time::Duration;

use nightshift_openapi as wire;
use nightshift_openapi::ErrorCode;

use super::{Error, State};
use crate::domain::{
    Invalid, Timestamp,
    attempt::{Failure, FailureKind, LogLevel, LogLine, Outcome, Progress, RecordedFailure},
    executor::{CONCURRENCY_DEFAULT, Executor, LEASE_SECONDS_DEFAULT, Registration, Target},
    json::JsonText,
    limits::{AHEAD_COUNTED_MAX, LOG_LINES_PER_RENEWAL_MAX},
    names::{ExecutorName, QueueName},
    retry::{self, Backoff},
    state::Stage,
    task::{self, Content, NewTask, Options, Reason, Repeat, Task, TaskId, TaskSummary},
};

/// What the headers of a request say of its task.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) idempotency_key: Option<String>,
    pub(super) traceparent: Option<String>,
}

pub(super) fn new_task(
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
    })
}

fn content(request: wire::TaskRequest) -> Result<Content, Error> {
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

fn json(value: &wire::Json, field: &'static str) -> Result<JsonText, Error> {
    JsonText::from_valid(value.as_str()).map_err(|_too_deep| {
        let detail = format!("{field} is nested more than 128 deep");
        Error::new(ErrorCode::TooDeep, detail).at(format!("/{field}"))
    })
}

fn options(
    timeout_seconds: Option<f64>,
    max_attempts: Option<i64>,
    backoff: Option<wire::Backoff>,
) -> Result<Options, Invalid> {
    Ok(Options {
        timeout: timeout_seconds.map(retry::timeout).transpose()?,
        max_attempts: max_attempts.map(task::max_attempts).transpose()?,
        backoff: backoff
            .map(|b| Backoff::new(b.initial_seconds, b.factor, b.max_seconds, b.jitter))
            .transpose()?,
    })
}

fn wire_backoff(backoff: Backoff) -> wire::Backoff {
    wire::Backoff {
        initial_seconds: Some(backoff.initial.as_secs_f64()),
        factor: Some(backoff.factor),
        max_seconds: Some(backoff.max.as_secs_f64()),
        jitter: Some(backoff.jitter),
    }
}

pub(super) fn wire_status(stage: Stage) -> wire::TaskStatus {
    match stage {
        Stage::Scheduled | Stage::Available => wire::TaskStatus::Ready,
        Stage::Running => wire::TaskStatus::Running,
        Stage::Successful => wire::TaskStatus::Successful,
        Stage::Failed => wire::TaskStatus::Failed,
        Stage::Cancelled => wire::TaskStatus::Cancelled,
    }
}

pub(super) fn wire_json(text: &JsonText) -> Result<wire::Json, Error> {
    wire::Json::from_text(text.as_str().to_owned()).map_err(|_error| {
        Error::new(ErrorCode::Internal, "the database holds text that is not JSON")
    })
}

pub(super) fn wire_progress(progress: Progress) -> wire::Progress {
    wire::Progress { fraction: progress.fraction, message: progress.message }
}

pub(super) fn wire_error(recorded: RecordedFailure) -> wire::TaskError {
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

pub(super) fn wire_task(task: Task) -> Result<wire::Task, Error> {
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
    })
}

pub(super) fn wire_summary(task: TaskSummary) -> wire::TaskSummary {
    let times = task.times;
    wire::TaskSummary {
        id: task.id.0,
        status: wire_status(task.stage),
        task_path: task.task_path,
        queue_name: task.queue_name,
        priority: task.priority,
        run_after: (task.due_at != times.enqueued_at).then(|| task.due_at.into()),
        labels: task.labels,
        executor: task.executor,
        attempts: task.attempts,
        enqueued_at: times.enqueued_at.into(),
        started_at: times.started_at.map(Into::into),
        finished_at: times.finished_at.map(Into::into),
    }
}

pub(super) fn wire_reason(reason: Reason) -> wire::Reason {
    let of = |code, detail: String| wire::Reason {
        code,
        detail,
        executor: None,
        until: None,
        count: None,
    };
    match reason {
        Reason::Finished => of(wire::ReasonCode::Finished, "the task has ended".to_owned()),
        Reason::Leased { executor, renewed_at, expires_at } => wire::Reason {
            until: Some(expires_at.into()),
            executor,
            ..of(
                wire::ReasonCode::Leased,
                format!("it runs, and was last heard of at {}", wire::Timestamp::from(renewed_at)),
            )
        },
        Reason::CancelRequested { until } => wire::Reason {
            until: Some(until.into()),
            ..of(wire::ReasonCode::CancelRequested, "it was asked to stop".to_owned())
        },
        Reason::WaitsForTime { until } => wire::Reason {
            until: Some(until.into()),
            ..of(wire::ReasonCode::WaitsForTime, "it is not due yet".to_owned())
        },
        Reason::Unrouted { task_path } => {
            of(wire::ReasonCode::Unrouted, format!("no executor serves {task_path}"))
        }
        Reason::ExecutorPaused { executor } => wire::Reason {
            executor: Some(executor),
            ..of(wire::ReasonCode::ExecutorPaused, "its executor is paused".to_owned())
        },
        Reason::ExecutorHeld { executor, until, why } => wire::Reason {
            executor: Some(executor),
            until: Some(until.into()),
            ..of(wire::ReasonCode::ExecutorHeld, format!("its executor is left alone: {why}"))
        },
        Reason::ExecutorFull { executor, concurrency } => wire::Reason {
            executor: Some(executor),
            count: Some(concurrency),
            ..of(
                wire::ReasonCode::ExecutorFull,
                format!("its executor runs {concurrency} tasks, as many as it may"),
            )
        },
        Reason::BehindOthers { executor, count } => wire::Reason {
            executor: Some(executor),
            count: Some(count),
            ..of(wire::ReasonCode::BehindOthers, behind(count))
        },
        Reason::AboutToStart => {
            of(wire::ReasonCode::AboutToStart, "nothing keeps it from starting".to_owned())
        }
    }
}

fn behind(count: u32) -> String {
    let or_more = if count >= AHEAD_COUNTED_MAX { " or more" } else { "" };
    format!("{count}{or_more} tasks of its executor come first")
}

pub(super) fn registration(
    name: ExecutorName,
    request: wire::ExecutorRequest,
) -> Result<Registration, Error> {
    let missing = |field| Invalid::new(field, "is required for an executor of kind http");
    let target = match request.kind {
        wire::ExecutorKind::Http => Target::Http {
            url: request.url.ok_or_else(|| missing("url"))?.parse()?,
            secret: request.secret.ok_or_else(|| missing("secret"))?.parse()?,
            previous_secret: request
                .previous_secret
                .map(|secret| secret.parse())
                .transpose()
                .map_err(|invalid: Invalid| Invalid::new("previous_secret", invalid.reason))?,
        },
    };
    let task_paths = request.task_paths.iter().enumerate().map(|(index, text)| {
        text.parse().map_err(|invalid| Error::from(invalid).below_index(index))
    });
    let number = |given: Option<i64>, default: u32| {
        given.map_or(default, |given| u32::try_from(given).unwrap_or(0))
    };
    let lease_seconds = number(request.lease_seconds, LEASE_SECONDS_DEFAULT);
    let registration = Registration {
        name,
        task_paths: task_paths.collect::<Result<_, _>>()?,
        concurrency: number(request.concurrency, CONCURRENCY_DEFAULT),
        lease: Duration::from_secs(u64::from(lease_seconds)),
        defaults: options(request.timeout_seconds, request.max_attempts, request.backoff)?,
        paused: request.paused,
        target,
    };
    Ok(registration.checked()?)
}

impl Error {
    /// The same error of one entry of a list.
    fn below_index(self, index: usize) -> Self {
        let pointer = format!("/task_paths/{index}");
        self.at(pointer)
    }
}

pub(super) fn wire_executor(executor: Executor) -> wire::Executor {
    let Executor { registration, circuit, .. } = executor;
    let Target::Http { url, .. } = &registration.target;
    wire::Executor {
        kind: wire::ExecutorKind::Http,
        url: Some(url.as_url().to_string()),
        task_paths: registration.task_paths.iter().map(ToString::to_string).collect(),
        name: registration.name.as_str().to_owned(),
        concurrency: registration.concurrency,
        lease_seconds: u32::try_from(registration.lease.as_secs()).unwrap_or(u32::MAX),
        timeout_seconds: registration.defaults.timeout.map(|timeout| timeout.as_secs_f64()),
        max_attempts: registration.defaults.max_attempts,
        backoff: registration.defaults.backoff.map(wire_backoff),
        paused: registration.paused,
        hold: circuit.held_until.map(|until| wire::Hold {
            until: until.into(),
            failures: circuit.failures,
            reason: circuit.reason.unwrap_or_default(),
        }),
        created_at: executor.created_at.into(),
        updated_at: executor.updated_at.into(),
    }
}

pub(super) fn progress(progress: wire::Progress) -> Result<Progress, Error> {
    Ok(Progress::new(progress.fraction, progress.message)?)
}

pub(super) fn log_lines(
    lines: Vec<wire::LogLineRequest>,
) -> Result<Vec<crate::store::NewLogLine>, Error> {
    if lines.len() > LOG_LINES_PER_RENEWAL_MAX {
        let reason = format!("has more than {LOG_LINES_PER_RENEWAL_MAX} lines");
        return Err(Invalid::new("logs", reason).into());
    }
    Ok(lines
        .into_iter()
        .map(|line| crate::store::NewLogLine {
            at: line.at.map(Timestamp::from),
            level: match line.level {
                wire::LogLevel::Debug => LogLevel::Debug,
                wire::LogLevel::Info => LogLevel::Info,
                wire::LogLevel::Warning => LogLevel::Warning,
                wire::LogLevel::Error => LogLevel::Error,
            },
            message: line.message,
        })
        .collect())
}

pub(super) fn wire_log_line(line: LogLine) -> wire::LogLine {
    wire::LogLine {
        at: line.at.into(),
        level: match line.level {
            LogLevel::Debug => wire::LogLevel::Debug,
            LogLevel::Info => wire::LogLevel::Info,
            LogLevel::Warning => wire::LogLevel::Warning,
            LogLevel::Error => wire::LogLevel::Error,
        },
        attempt: line.attempt,
        message: line.message,
    }
}

/// Exactly one of the three ways to end an attempt. Many clients send what they leave out as
/// null, so a return value of null beside another way is none.
pub(super) fn outcome(request: wire::FinishRequest) -> Result<Outcome, Error> {
    let nothing = request.return_value.as_ref().is_none_or(|value| value.as_str() == "null");
    match (request.return_value, request.error, request.cancelled) {
        (Some(value), None, false) => Ok(Outcome::Succeeded(json(&value, "return_value")?)),
        (_, Some(error), false) if nothing => Ok(Outcome::Failed(failure(error))),
        (_, None, true) if nothing => Ok(Outcome::Cancelled),
        _ => {
            let detail = "exactly one of return_value, error and cancelled: true is needed";
            Err(Error::new(ErrorCode::InvalidField, detail).at(""))
        }
    }
}

fn failure(error: wire::ErrorReport) -> Failure {
    let base = Failure::new(FailureKind::Exception, error.message.unwrap_or_default());
    Failure {
        exception_class_path: error.exception_class_path,
        traceback: error.traceback,
        retryable: error.retryable.unwrap_or(base.retryable),
        ..base
    }
}
