//! How attempts end ([`Outcome`], [`Failure`]), and what they report while they run: progress and
//! log lines.

use std::time::Duration;

use super::{
    Timestamp,
    json::JsonText,
    limits::{
        CLASS_PATH_BYTES_MAX, MESSAGE_BYTES_MAX, PROGRESS_BYTES_MAX, TRACEBACK_BYTES_MAX, cut_end,
        cut_start, storable,
    },
    state::Event,
};

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Succeeded(JsonText),
    Failed(Failure),
    /// The work certainly did not start: the executor could not be reached, or it answered that it
    /// takes no task now.
    Undelivered {
        reason: String,
        retry_after: Option<Duration>,
    },
    /// The executor, or this service at its shutdown, gave the attempt back; it is not counted.
    HandedBack,
    /// Stopped because cancelling was requested.
    Cancelled,
}

impl Outcome {
    /// The event that this outcome is for the task's state.
    pub fn event(&self) -> Event {
        match self {
            Self::Succeeded(_) => Event::Succeeded,
            Self::Failed(failure) => Event::Failed { retryable: failure.retryable },
            Self::Undelivered { .. } => Event::Undelivered,
            Self::HandedBack => Event::HandedBack,
            Self::Cancelled => Event::CancelForced,
        }
    }

    /// Bytes of its texts, about.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Succeeded(value) => value.as_str().len(),
            Self::Failed(failure) => {
                failure.message.len() + failure.traceback.as_ref().map_or(0, String::len)
            }
            Self::Undelivered { reason, .. } => reason.len(),
            Self::HandedBack | Self::Cancelled => 0,
        }
    }
}

/// Why an attempt, or a task, ended without a return value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    pub exception_class_path: Option<String>,
    pub message: String,
    pub traceback: Option<String>,
    /// Whether the task may be tried again.
    pub retryable: bool,
}

impl Failure {
    /// A failure with the `retryable` that its kind has unless the executor states it.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        let retryable = match kind {
            FailureKind::Exception | FailureKind::Timeout | FailureKind::Lost => true,
            FailureKind::Rejected
            | FailureKind::Expired
            | FailureKind::Cancelled
            | FailureKind::Unreachable
            | FailureKind::Trap => false,
        };
        Self {
            kind,
            exception_class_path: None,
            message: message.into(),
            traceback: None,
            retryable,
        }
    }

    /// The failure of a task that cannot be run because its row in the database holds `flaw`.
    pub fn unreadable(flaw: &str) -> Self {
        let message = format!("the task cannot be run: the database holds {flaw}");
        Self::new(FailureKind::Rejected, message)
    }

    /// The same failure, with its texts cut to their limits and in a form that both engines can
    /// store.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.message = cut_end(&storable(&self.message), MESSAGE_BYTES_MAX).to_owned();
        self.traceback =
            self.traceback.map(|t| cut_start(&storable(&t), TRACEBACK_BYTES_MAX).to_owned());
        self.exception_class_path = self
            .exception_class_path
            .map(|c| cut_end(&storable(&c), CLASS_PATH_BYTES_MAX).to_owned());
        self
    }
}

/// The kind of a failure. The numbers are stored, so they never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum FailureKind {
    Exception = 0,
    Timeout = 1,
    Lost = 2,
    Rejected = 3,
    Expired = 4,
    Cancelled = 5,
    Unreachable = 6,
    Trap = 7,
}

impl FailureKind {
    pub const ALL: [Self; 8] = [
        Self::Exception,
        Self::Timeout,
        Self::Lost,
        Self::Rejected,
        Self::Expired,
        Self::Cancelled,
        Self::Unreachable,
        Self::Trap,
    ];

    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as i16 == number)
    }
}

/// A failure as it is recorded with the task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedFailure {
    pub attempt: u32,
    pub failure: Failure,
    pub at: Timestamp,
}

/// How far an attempt has come, as its executor reports it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// From 0 to 1.
    pub fraction: Option<f64>,
    pub message: Option<String>,
}

impl Progress {
    pub fn new(fraction: Option<f64>, message: Option<String>) -> Result<Self, super::Invalid> {
        if fraction.is_some_and(|fraction| !(0.0..=1.0).contains(&fraction)) {
            return Err(super::Invalid::new("progress/fraction", "must be 0 to 1"));
        }
        let message = message.map(|text| cut_end(&storable(&text), PROGRESS_BYTES_MAX).to_owned());
        Ok(Self { fraction, message })
    }
}

/// The level of a log line. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum LogLevel {
    Debug = 0,
    Info = 1,
    Warning = 2,
    Error = 3,
}

impl LogLevel {
    pub fn from_number(number: i16) -> Option<Self> {
        [Self::Debug, Self::Info, Self::Warning, Self::Error]
            .into_iter()
            .find(|level| *level as i16 == number)
    }
}

/// A line of a task's log, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    pub at: Timestamp,
    pub level: LogLevel,
    pub attempt: u32,
    pub message: String,
}
