//! What happens to tasks, as those are told who watch.

use std::time::Duration;

use super::{
    Timestamp,
    attempt::{Failure, LogLine, Progress},
    history::StepKind,
    limits::cut_end,
    state::Stage,
    task::TaskId,
};

/// Bytes of an error's message in an event; the record has all of it.
pub const EVENT_MESSAGE_BYTES_MAX: usize = 1_024;

/// Something that happened to a task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskEvent {
    pub task_id: TaskId,
    pub task_path: String,
    pub queue_name: String,
    /// Where that has brought the task.
    pub stage: Stage,
    /// The attempt concerned; 0 before the first.
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
    /// Its name in metrics.
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

    /// The step of the task's history that this is, if it is one.
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
    /// What an event says of it.
    #[must_use]
    pub fn brief(&self) -> Self {
        let message = cut_end(&self.message, EVENT_MESSAGE_BYTES_MAX).to_owned();
        Self { message, traceback: None, ..self.clone() }
    }
}

/// A place in the order of all events: whoever has it has seen everything up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventPlace {
    pub seq: i64,
    pub index: u32,
}

impl EventPlace {
    /// The index of the last event of a seq, however many there are.
    pub const LAST: u32 = u32::MAX;

    /// After everything up to `seq`.
    pub fn after(seq: i64) -> Self {
        Self { seq, index: Self::LAST }
    }
}

/// How far somebody has followed one task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskPlace {
    /// Steps seen, counting the enqueuing as the first.
    pub steps: u64,
    /// The last log line seen.
    pub log: i64,
    /// Names the progress seen last.
    pub progress: u32,
}

/// How long events are kept for those who come back, and how much of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRetention {
    pub age: Duration,
    pub bytes: u64,
}
