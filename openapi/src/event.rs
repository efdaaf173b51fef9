use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{LogLine, Progress, TaskError, TaskStatus, Timestamp};

/// What kind of thing happened. Read on past one that you do not know: later versions have more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum TaskEventType {
    /// The task was stored.
    #[serde(rename = "task.enqueued")]
    Enqueued,
    /// An attempt began.
    #[serde(rename = "task.started")]
    Started,
    /// The executor told how far it is.
    #[serde(rename = "task.progress")]
    Progress,
    /// The executor sent lines for the log.
    #[serde(rename = "task.log")]
    Log,
    /// An attempt failed, and another one follows.
    #[serde(rename = "task.attempt_failed")]
    AttemptFailed,
    /// The attempt did not begin after all, or was given back; it does not count.
    #[serde(rename = "task.released")]
    Released,
    /// Somebody asked to cancel the running task.
    #[serde(rename = "task.cancel_requested")]
    CancelRequested,
    /// The task ended; `status` says how.
    #[serde(rename = "task.finished")]
    Finished,
    /// Somebody made a finished task READY again.
    #[serde(rename = "task.retried")]
    Retried,
    /// Somebody deleted the finished task.
    #[serde(rename = "task.deleted")]
    Deleted,
}

impl TaskEventType {
    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enqueued => "task.enqueued",
            Self::Started => "task.started",
            Self::Progress => "task.progress",
            Self::Log => "task.log",
            Self::AttemptFailed => "task.attempt_failed",
            Self::Released => "task.released",
            Self::CancelRequested => "task.cancel_requested",
            Self::Finished => "task.finished",
            Self::Retried => "task.retried",
            Self::Deleted => "task.deleted",
        }
    }
}

impl fmt::Display for TaskEventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Something that happened to a task: the `data` of a Server-Sent Event whose `event` is `type`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskEvent {
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: TaskEventType,
    /// The task's id.
    pub task_id: Uuid,
    /// The work's name.
    pub task_path: String,
    /// The queue that the task belongs to.
    pub queue_name: String,
    /// Where that has brought the task.
    pub status: TaskStatus,
    /// The attempt concerned, from 1; 0 before the first.
    pub attempt: u32,
    /// When it happened.
    pub at: Timestamp,
    /// `task.enqueued`, `task.attempt_failed`, `task.released`: not started again before this
    /// time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_after: Option<Timestamp>,
    /// `task.started`: who runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    /// `task.progress`: how far the attempt is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// `task.log`: the lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogLine>,
    /// `task.attempt_failed`, and `task.finished` unless the task succeeded: why. The message has
    /// at most 1 KiB and there is no traceback: the record has all of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
}
