//! Events: what happens to tasks, as it is reported to clients that watch.

use std::time::Duration;

use super::{
    Timestamp,
    attempt::{Failure, LogLine, Progress},
    history::StepKind,
    limits::cut_end,
    state::Stage,
    task::TaskId,
};

/// Bytes of an error's message in an event. The task's record has the whole message.
pub const EVENT_MESSAGE_BYTES_MAX: usize = 1_024;

/// Something that happened to a task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskEvent {
    pub task_id: TaskId,
    pub task_path: String,
    pub queue_name: String,
    /// The task's stage after the event.
    pub stage: Stage,
    /// The attempt that the event belongs to; 0 if the first one has not begun.
    pub attempt: u32,
    pub at: Timestamp,
    pub change: Change,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Enqueued { run_after: Option<Timestamp> },
    Started { worker_id: Option<String> },
    Progress(Progress),
    Log(Vec<LogLine>),
    AttemptFailed { failure: Option<Failure>, run_after: Option<Timestamp> },
    Released { run_after: Option<Timestamp> },
    CancelRequested,
    Ended { failure: Option<Failure> },
    Retried,
    Deleted,
}

impl Change {
    /// The name of the event's type in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Enqueued { .. } => "enqueued",
            Self::Started { .. } => "started",
            Self::Progress(_) => "progress",
            Self::Log(_) => "log",
            Self::AttemptFailed { .. } => "attempt_failed",
            Self::Released { .. } => "released",
            Self::CancelRequested => "cancel_requested",
            Self::Ended { .. } => "finished",
            Self::Retried => "retried",
            Self::Deleted => "deleted",
        }
    }

    /// The step that this event adds to the task's history, if it adds one.
    pub fn step(&self, stage: Stage) -> Option<StepKind> {
        match self {
            Self::Started { .. } => Some(StepKind::Started),
            Self::AttemptFailed { .. } => Some(StepKind::AttemptFailed),
            Self::Released { .. } => Some(StepKind::Released),
            Self::CancelRequested => Some(StepKind::CancelRequested),
            Self::Ended { .. } => Some(StepKind::Ended(stage)),
            Self::Retried => Some(StepKind::Retried),
            Self::Enqueued { .. } | Self::Progress(_) | Self::Log(_) | Self::Deleted => None,
        }
    }
}

impl Failure {
    /// The failure as an event reports it: with a shortened message and no traceback.
    #[must_use]
    pub fn brief(&self) -> Self {
        let message = cut_end(&self.message, EVENT_MESSAGE_BYTES_MAX).to_owned();
        Self { message, traceback: None, ..self.clone() }
    }
}

/// A position in the order of all events. A reader that holds it has seen every event up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventPlace {
    pub seq: i64,
    pub index: u32,
}

impl EventPlace {
    /// Stands for the index of the last event with a `seq`, however many there are.
    pub const LAST: u32 = u32::MAX;

    /// The position after all events up to `seq`.
    pub fn after(seq: i64) -> Self {
        Self { seq, index: Self::LAST }
    }
}

/// How far a reader has followed one task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskPlace {
    /// How many steps of its history were seen. The enqueuing counts as the first.
    pub steps: u64,
    /// The last log line seen.
    pub log: i64,
    /// A number that stands for the progress seen last.
    pub progress: u32,
}

/// How long, and up to how many bytes, events are kept for readers that reconnect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRetention {
    pub age: Duration,
    pub bytes: u64,
}
