//! Events as the table keeps them: each is one line of JSON.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{
    error::Result,
    rows::{TaskRow, corrupt, from_json, micros, time, times, to_json},
};
use crate::domain::{
    Timestamp,
    attempt::{Failure, FailureKind, LogLevel, LogLine, Progress},
    event::{Change, TaskEvent},
    state::Stage,
    task::TaskId,
};

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    id: uuid::Uuid,
    #[serde(borrow)]
    path: Cow<'a, str>,
    queue: Cow<'a, str>,
    stage: i16,
    attempt: u32,
    change: ChangeText<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ChangeText<'a> {
    Enqueued { run_after: Option<i64> },
    Started { worker_id: Option<Cow<'a, str>> },
    Progress { fraction: Option<f64>, message: Option<Cow<'a, str>> },
    Log(Vec<LogText<'a>>),
    AttemptFailed { failure: Option<FailureText<'a>>, run_after: Option<i64> },
    Released { run_after: Option<i64> },
    CancelRequested,
    Ended { failure: Option<FailureText<'a>> },
    Retried,
    Deleted,
}

#[derive(Serialize, Deserialize)]
struct LogText<'a> {
    at: i64,
    level: i16,
    message: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct FailureText<'a> {
    kind: i16,
    class: Option<Cow<'a, str>>,
    message: Cow<'a, str>,
    retryable: bool,
}

/// Writes one event of a task. Its time is that of the transaction, and is not part of the line.
pub(super) fn write(row: &TaskRow, attempt: u32, change: &Change) -> Result<String> {
    let line = Line {
        id: super::transition::task_id(&row.id)?.0,
        path: Cow::Borrowed(&row.task_path),
        queue: Cow::Borrowed(&row.queue_name),
        stage: row.now.stage,
        attempt,
        change: change_text(change),
    };
    to_json(&line, "events")
}

fn change_text(change: &Change) -> ChangeText<'_> {
    match change {
        Change::Enqueued { run_after } => ChangeText::Enqueued { run_after: run_after.map(micros) },
        Change::Started { worker_id } => {
            ChangeText::Started { worker_id: worker_id.as_deref().map(Cow::Borrowed) }
        }
        Change::Progress(progress) => ChangeText::Progress {
            fraction: progress.fraction,
            message: progress.message.as_deref().map(Cow::Borrowed),
        },
        Change::Log(lines) => ChangeText::Log(lines.iter().map(log_text).collect()),
        Change::AttemptFailed { failure, run_after } => ChangeText::AttemptFailed {
            failure: failure.as_ref().map(failure_text),
            run_after: run_after.map(micros),
        },
        Change::Released { run_after } => ChangeText::Released { run_after: run_after.map(micros) },
        Change::CancelRequested => ChangeText::CancelRequested,
        Change::Ended { failure } => {
            ChangeText::Ended { failure: failure.as_ref().map(failure_text) }
        }
        Change::Retried => ChangeText::Retried,
        Change::Deleted => ChangeText::Deleted,
    }
}

fn log_text(line: &LogLine) -> LogText<'_> {
    LogText { at: micros(line.at), level: line.level as i16, message: (&line.message).into() }
}

fn failure_text(failure: &Failure) -> FailureText<'_> {
    FailureText {
        kind: failure.kind as i16,
        class: failure.exception_class_path.as_deref().map(Cow::Borrowed),
        message: (&failure.message).into(),
        retryable: failure.retryable,
    }
}

/// Reads one line. It is an error if this version does not know the kind of event.
pub(super) fn read(text: &str, at: Timestamp) -> Result<TaskEvent> {
    let line: Line<'_> = from_json(text, "events")?;
    let stage = Stage::from_number(line.stage).ok_or_else(|| corrupt("an event's stage"))?;
    Ok(TaskEvent {
        task_id: TaskId(line.id),
        task_path: line.path.into_owned(),
        queue_name: line.queue.into_owned(),
        stage,
        attempt: line.attempt,
        at,
        change: change(line.change, line.attempt)?,
    })
}

fn change(text: ChangeText<'_>, attempt: u32) -> Result<Change> {
    Ok(match text {
        ChangeText::Enqueued { run_after } => Change::Enqueued { run_after: times(run_after)? },
        ChangeText::Started { worker_id } => {
            Change::Started { worker_id: worker_id.map(Cow::into_owned) }
        }
        ChangeText::Progress { fraction, message } => {
            Change::Progress(Progress { fraction, message: message.map(Cow::into_owned) })
        }
        ChangeText::Log(lines) => {
            Change::Log(lines.into_iter().map(|line| log(line, attempt)).collect::<Result<_>>()?)
        }
        ChangeText::AttemptFailed { failure: text, run_after } => Change::AttemptFailed {
            failure: text.map(failure).transpose()?,
            run_after: times(run_after)?,
        },
        ChangeText::Released { run_after } => Change::Released { run_after: times(run_after)? },
        ChangeText::CancelRequested => Change::CancelRequested,
        ChangeText::Ended { failure: text } => {
            Change::Ended { failure: text.map(failure).transpose()? }
        }
        ChangeText::Retried => Change::Retried,
        ChangeText::Deleted => Change::Deleted,
    })
}

fn log(text: LogText<'_>, attempt: u32) -> Result<LogLine> {
    Ok(LogLine {
        at: time(text.at)?,
        level: LogLevel::from_number(text.level).ok_or_else(|| corrupt("an event's log level"))?,
        attempt,
        message: text.message.into_owned(),
    })
}

fn failure(text: FailureText<'_>) -> Result<Failure> {
    let kind = FailureKind::from_number(text.kind).ok_or_else(|| corrupt("an event's failure"))?;
    Ok(Failure {
        exception_class_path: text.class.map(Cow::into_owned),
        retryable: text.retryable,
        ..Failure::new(kind, text.message)
    })
}
