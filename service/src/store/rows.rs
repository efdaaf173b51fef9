//! Rows as the tables have them, and the way between them and the domain.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use diesel::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    error::{Error, Result},
    schema::{task_errors, task_inputs, task_labels, task_logs, task_results, tasks},
};
use crate::domain::{
    Timestamp,
    attempt::{Failure, FailureKind, LogLevel, LogLine, Progress, RecordedFailure},
    executor::ExecutorId,
    retry::Backoff,
    state::Stage,
    task::{LeaseTimes, Options, Times},
};

pub(super) fn corrupt(what: impl Into<String>) -> Error {
    Error::Corrupt(what.into())
}

pub(super) fn time(microseconds: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(microseconds)
        .map_err(|_invalid| corrupt(format!("the time {microseconds}")))
}

/// The times that RFC 3339 can write, from the year 0 to 9999, in microseconds.
const MICROS_MIN: i64 = -62_167_219_200_000_000;
const MICROS_MAX: i64 = 253_402_207_200_000_000;

/// The nearest time that can be shown, for a stored one that cannot.
pub(super) fn nearest_micros(microseconds: i64) -> i64 {
    microseconds.clamp(MICROS_MIN, MICROS_MAX)
}

/// The nearest time that can be shown, so that one bad row does not hide the others.
pub(super) fn nearest_time(microseconds: i64) -> Timestamp {
    let clamped = Timestamp::from_microsecond(nearest_micros(microseconds));
    clamped.unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(super) fn times(microseconds: Option<i64>) -> Result<Option<Timestamp>> {
    microseconds.map(time).transpose()
}

pub(super) fn micros(instant: Timestamp) -> i64 {
    instant.as_microsecond()
}

pub(super) fn duration_micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

pub(super) fn duration(microseconds: i64) -> Duration {
    Duration::from_micros(u64::try_from(microseconds).unwrap_or(0))
}

pub(super) fn number(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

pub(super) fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// The row of a task: the columns that never change, and those that do.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = tasks)]
pub(super) struct TaskRow {
    pub(super) seq: i64,
    pub(super) id: Vec<u8>,
    pub(super) task_path: String,
    pub(super) queue_name: String,
    pub(super) priority: i16,
    pub(super) enqueued_at: i64,
    pub(super) expires_at: Option<i64>,
    pub(super) timeout_us: Option<i64>,
    pub(super) max_attempts: Option<i32>,
    pub(super) backoff: Option<String>,
    pub(super) unique_key: Option<String>,
    pub(super) idempotency_key: Option<String>,
    /// Written only by [`dialect::bulk::drop_old_errors`].
    ///
    /// [`dialect::bulk::drop_old_errors`]: super::dialect::bulk::drop_old_errors
    pub(super) errors_dropped: i32,
    #[diesel(embed)]
    pub(super) now: Changing,
}

/// The columns that change while a task lives.
#[derive(Clone, Debug, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = tasks, treat_none_as_null = true)]
pub(super) struct Changing {
    pub(super) stage: i16,
    pub(super) executor_id: Option<i64>,
    pub(super) due_at: i64,
    pub(super) attempts: i32,
    pub(super) attempts_before: i32,
    pub(super) deliveries: i32,
    pub(super) worker_ids: String,
    pub(super) lease_secret: Option<Vec<u8>>,
    pub(super) lease_renewed_at: Option<i64>,
    pub(super) lease_expires_at: Option<i64>,
    pub(super) deadline_at: Option<i64>,
    pub(super) detached: bool,
    pub(super) started_at: Option<i64>,
    pub(super) last_attempted_at: Option<i64>,
    pub(super) finished_at: Option<i64>,
    pub(super) cancel_requested_at: Option<i64>,
    pub(super) progress_fraction: Option<f64>,
    pub(super) progress_message: Option<String>,
    pub(super) history: String,
}

impl TaskRow {
    pub(super) fn stage(&self) -> Result<Stage> {
        Stage::from_number(self.now.stage)
            .ok_or_else(|| corrupt(format!("the stage {}", self.now.stage)))
    }

    /// The number of the present attempt, or of the last one; 0 before the first.
    pub(super) fn attempt(&self) -> u32 {
        count(self.now.attempts)
    }

    pub(super) fn options(&self) -> Result<Options> {
        options(self.timeout_us, self.max_attempts, self.backoff.as_deref())
    }

    pub(super) fn worker_ids(&self) -> Result<Vec<String>> {
        from_json(&self.now.worker_ids, "worker_ids")
    }

    pub(super) fn times(&self) -> Result<Times> {
        Ok(Times {
            enqueued_at: time(self.enqueued_at)?,
            started_at: times(self.now.started_at)?,
            last_attempted_at: times(self.now.last_attempted_at)?,
            cancel_requested_at: times(self.now.cancel_requested_at)?,
            finished_at: times(self.now.finished_at)?,
        })
    }

    pub(super) fn lease(&self) -> Result<Option<LeaseTimes>> {
        let both = self.now.lease_renewed_at.zip(self.now.lease_expires_at);
        both.map(|(renewed_at, expires_at)| {
            Ok(LeaseTimes { renewed_at: time(renewed_at)?, expires_at: time(expires_at)? })
        })
        .transpose()
    }

    pub(super) fn progress(&self) -> Option<Progress> {
        let now = &self.now;
        (now.progress_fraction.is_some() || now.progress_message.is_some()).then(|| Progress {
            fraction: now.progress_fraction,
            message: now.progress_message.clone(),
        })
    }

    pub(super) fn executor_id(&self) -> Option<ExecutorId> {
        self.now.executor_id.map(ExecutorId)
    }
}

pub(super) fn from_json<'a, T: Deserialize<'a>>(text: &'a str, column: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|_invalid| corrupt(format!("{column} that is not as expected")))
}

pub(super) fn to_json(value: &impl Serialize, column: &str) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|_invalid| corrupt(format!("{column} that JSON cannot hold")))
}

#[derive(Serialize, Deserialize)]
struct StoredBackoff {
    initial_us: i64,
    factor: f64,
    max_us: i64,
    jitter: f64,
}

pub(super) fn backoff_text(backoff: Option<Backoff>) -> Result<Option<String>> {
    backoff
        .map(|b| {
            let stored = StoredBackoff {
                initial_us: duration_micros(b.initial),
                factor: b.factor,
                max_us: duration_micros(b.max),
                jitter: b.jitter,
            };
            to_json(&stored, "backoff")
        })
        .transpose()
}

pub(super) fn options_columns(
    options: &Options,
) -> Result<(Option<i64>, Option<i32>, Option<String>)> {
    Ok((
        options.timeout.map(duration_micros),
        options.max_attempts.map(number),
        backoff_text(options.backoff)?,
    ))
}

pub(super) fn options(
    timeout_us: Option<i64>,
    max_attempts: Option<i32>,
    backoff: Option<&str>,
) -> Result<Options> {
    let backoff = backoff.map(|text| from_json::<StoredBackoff>(text, "backoff")).transpose()?;
    Ok(Options {
        timeout: timeout_us.map(duration),
        max_attempts: max_attempts.map(count),
        backoff: backoff.map(|b| Backoff {
            initial: duration(b.initial_us),
            factor: b.factor,
            max: duration(b.max_us),
            jitter: b.jitter,
        }),
    })
}

#[derive(Debug, Insertable)]
#[diesel(table_name = task_inputs)]
pub(super) struct InputRow<'a> {
    pub(super) task_seq: i64,
    pub(super) args: Cow<'a, str>,
    pub(super) kwargs: Cow<'a, str>,
    pub(super) fingerprint: Option<Vec<u8>>,
    pub(super) traceparent: Option<&'a str>,
}

/// The inputs of a task that its executor gets.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = task_inputs)]
pub(super) struct Inputs {
    pub(super) args: String,
    pub(super) kwargs: String,
    pub(super) traceparent: Option<String>,
}

#[derive(Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = task_labels)]
pub(super) struct LabelRow {
    pub(super) task_seq: i64,
    pub(super) key: String,
    pub(super) value: String,
}

/// Labels of several tasks, by their `seq`.
pub(super) fn group_labels(rows: Vec<LabelRow>) -> BTreeMap<i64, BTreeMap<String, String>> {
    let mut grouped: BTreeMap<i64, BTreeMap<String, String>> = BTreeMap::new();
    for row in rows {
        grouped.entry(row.task_seq).or_default().insert(row.key, row.value);
    }
    grouped
}

/// The return value of a task.
#[derive(Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = task_results)]
pub(super) struct ResultRow {
    pub(super) task_seq: i64,
    pub(super) return_value: String,
}

#[derive(Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = task_errors)]
pub(super) struct ErrorRow {
    pub(super) task_seq: i64,
    pub(super) attempt: i32,
    pub(super) kind: i16,
    pub(super) at: i64,
    pub(super) exception_class_path: Option<String>,
    pub(super) message: String,
    pub(super) traceback: Option<String>,
}

impl From<ErrorRow> for RecordedFailure {
    fn from(row: ErrorRow) -> Self {
        // A later version that runs beside this one may know more kinds.
        let kind = FailureKind::from_number(row.kind).unwrap_or(FailureKind::Exception);
        Self {
            attempt: count(row.attempt),
            failure: Failure {
                exception_class_path: row.exception_class_path,
                traceback: row.traceback,
                ..Failure::new(kind, row.message)
            },
            at: nearest_time(row.at),
        }
    }
}

#[derive(Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = task_logs)]
pub(super) struct LogRow {
    pub(super) task_seq: i64,
    pub(super) attempt: i32,
    pub(super) at: i64,
    pub(super) level: i16,
    pub(super) bytes: i32,
    pub(super) message: String,
}

impl From<LogRow> for LogLine {
    fn from(row: LogRow) -> Self {
        Self {
            at: nearest_time(row.at),
            level: LogLevel::from_number(row.level).unwrap_or(LogLevel::Info),
            attempt: count(row.attempt),
            message: row.message,
        }
    }
}
