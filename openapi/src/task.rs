use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Backoff, Json, Timestamp,
    schema::{Kwargs, Labels, QueueName, TaskPath},
};

/// Where a task is. The first four are Django's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum TaskStatus {
    /// Waits: for an executor, for `run_after`, or for its next attempt.
    Ready,
    /// An executor holds it under a lease.
    Running,
    /// Ended with a return value.
    Successful,
    /// Ended without one; `errors` says why.
    Failed,
    /// Ended because somebody asked for it.
    Cancelled,
}

impl TaskStatus {
    /// Whether the task has ended.
    #[must_use]
    pub fn is_finished(self) -> bool {
        match self {
            Self::Ready | Self::Running => false,
            Self::Successful | Self::Failed | Self::Cancelled => true,
        }
    }
}

impl fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ready => "READY",
            Self::Running => "RUNNING",
            Self::Successful => "SUCCESSFUL",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        })
    }
}

/// How far a running attempt is, in its executor's own words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// 0 to 1.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1, example = 0.4)]
    pub fraction: Option<f64>,
    /// At most 4,000 bytes; longer ones are cut.
    #[serde(default)]
    #[schema(example = "2 of 5 images")]
    pub message: Option<String>,
}

/// Why an attempt, or the task as a whole, did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskErrorKind {
    /// The executor reported an error.
    Exception,
    /// The attempt ran longer than `timeout_seconds`.
    Timeout,
    /// The connection broke or the lease ran out: nobody knows how far it came.
    Lost,
    /// The executor refused the task for good (4xx), or its answer could not be accepted.
    Rejected,
    /// `expires_at` passed while the task waited.
    Expired,
    /// Somebody cancelled the task.
    Cancelled,
    /// The executor could not be reached, more often than the service allows.
    Unreachable,
    /// A plugin was stopped by the sandbox.
    Trap,
}

/// One failed attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskError {
    /// Which attempt, from 1; 0 where the task ended before its first.
    pub attempt: u32,
    /// What went wrong, in one word.
    pub kind: TaskErrorKind,
    /// The executor's own class, such as `builtins.ValueError`.
    #[schema(required = true)]
    pub exception_class_path: Option<String>,
    /// At most 16 KiB; longer ones are cut at a character.
    pub message: String,
    /// At most 64 KiB; the start of a longer one is cut away.
    #[schema(required = true)]
    pub traceback: Option<String>,
    /// When the attempt ended.
    pub at: Timestamp,
}

/// The whole record of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Task {
    /// The task's id.
    pub id: Uuid,
    /// Where the task is.
    pub status: TaskStatus,
    /// The work's name.
    #[schema(value_type = TaskPath)]
    pub task_path: String,
    /// Positional arguments, as they came.
    #[schema(value_type = Vec<Value>)]
    pub args: Json,
    /// Keyword arguments, as they came.
    #[schema(value_type = Kwargs)]
    pub kwargs: Json,
    /// The queue that the task waits in.
    #[schema(value_type = QueueName)]
    pub queue_name: String,
    /// -100 to 100.
    #[schema(minimum = -100, maximum = 100)]
    pub priority: i16,
    /// Not started before this time: as requested, or the time of the next attempt.
    #[schema(required = true)]
    pub run_after: Option<Timestamp>,
    /// A task still waiting then fails.
    #[schema(required = true)]
    pub expires_at: Option<Timestamp>,
    /// How long one attempt may take.
    pub timeout_seconds: f64,
    /// How often the task is tried in all.
    pub max_attempts: u32,
    /// How long to wait between attempts.
    pub backoff: Backoff,
    /// What the task may be found by.
    #[schema(value_type = Labels)]
    pub labels: BTreeMap<String, String>,
    /// The key that no other waiting or running task has.
    #[schema(required = true)]
    pub unique_key: Option<String>,
    /// The executor that serves the task path; null while there is none.
    #[schema(required = true)]
    pub executor: Option<String>,
    /// Attempts begun so far.
    pub attempts: u32,
    /// Times the task was handed out, with those that never reached the executor.
    pub deliveries: u32,
    /// Who ran it, one entry an attempt; the newest 100 of them.
    pub worker_ids: Vec<String>,
    /// When the task was enqueued.
    pub enqueued_at: Timestamp,
    /// When its first attempt began.
    #[schema(required = true)]
    pub started_at: Option<Timestamp>,
    /// When its latest attempt began.
    #[schema(required = true)]
    pub last_attempted_at: Option<Timestamp>,
    /// When it ended.
    #[schema(required = true)]
    pub finished_at: Option<Timestamp>,
    /// When the running attempt was last heard of.
    #[schema(required = true)]
    pub last_renewed_at: Option<Timestamp>,
    /// When the running attempt is given up unless it is heard of again.
    #[schema(required = true)]
    pub lease_expires_at: Option<Timestamp>,
    /// How far the running attempt is.
    #[schema(required = true)]
    pub progress: Option<Progress>,
    /// When somebody asked to cancel it.
    #[schema(required = true)]
    pub cancel_requested_at: Option<Timestamp>,
    /// What the task returned; null unless it is SUCCESSFUL.
    #[schema(value_type = Option<Value>, required = true)]
    pub return_value: Option<Json>,
    /// One entry for each failed attempt, oldest first; the newest 100 of them, and 1 MiB at most.
    pub errors: Vec<TaskError>,
    /// How many older entries were left out of `errors`.
    #[serde(default)]
    #[schema(required = true)]
    pub errors_dropped: u32,
}

/// A task in a list: the record without what may be large.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskSummary {
    /// The task's id.
    pub id: Uuid,
    /// Where the task is.
    pub status: TaskStatus,
    /// The work's name.
    #[schema(value_type = TaskPath)]
    pub task_path: String,
    /// The queue that the task waits in.
    #[schema(value_type = QueueName)]
    pub queue_name: String,
    /// -100 to 100.
    #[schema(minimum = -100, maximum = 100)]
    pub priority: i16,
    /// Not started before this time.
    #[schema(required = true)]
    pub run_after: Option<Timestamp>,
    /// What the task may be found by.
    #[schema(value_type = Labels)]
    pub labels: BTreeMap<String, String>,
    /// The executor that serves the task path.
    #[schema(required = true)]
    pub executor: Option<String>,
    /// Attempts begun so far.
    pub attempts: u32,
    /// When the task was enqueued.
    pub enqueued_at: Timestamp,
    /// When its first attempt began.
    #[schema(required = true)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(required = true)]
    pub finished_at: Option<Timestamp>,
}

/// One page of tasks, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskList {
    /// The tasks of this page.
    pub items: Vec<TaskSummary>,
    /// Give it as `cursor` to read on; null on the last page.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// The part of the record that changes while the task runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskState {
    /// The task's id.
    pub id: Uuid,
    /// Where the task is.
    pub status: TaskStatus,
    /// Attempts begun so far.
    pub attempts: u32,
    /// How far the running attempt is.
    #[schema(required = true)]
    pub progress: Option<Progress>,
    /// When the task was enqueued.
    pub enqueued_at: Timestamp,
    /// Not started before this time.
    #[schema(required = true)]
    pub run_after: Option<Timestamp>,
    /// When its first attempt began.
    #[schema(required = true)]
    pub started_at: Option<Timestamp>,
    /// When its latest attempt began.
    #[schema(required = true)]
    pub last_attempted_at: Option<Timestamp>,
    /// When the running attempt was last heard of.
    #[schema(required = true)]
    pub last_renewed_at: Option<Timestamp>,
    /// When the running attempt is given up unless it is heard of again.
    #[schema(required = true)]
    pub lease_expires_at: Option<Timestamp>,
    /// When somebody asked to cancel it.
    #[schema(required = true)]
    pub cancel_requested_at: Option<Timestamp>,
    /// When it ended.
    #[schema(required = true)]
    pub finished_at: Option<Timestamp>,
}

/// How a task ended, or (with 202) that it has not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskResult {
    /// The task's id.
    pub id: Uuid,
    /// Where the task is.
    pub status: TaskStatus,
    /// What the task returned; null unless it is SUCCESSFUL.
    #[schema(value_type = Option<Value>, required = true)]
    pub return_value: Option<Json>,
    /// One entry for each failed attempt, oldest first; the newest 100 of them, and 1 MiB at most.
    pub errors: Vec<TaskError>,
    /// How many older entries were left out of `errors`.
    #[serde(default)]
    #[schema(required = true)]
    pub errors_dropped: u32,
    /// When it ended.
    #[schema(required = true)]
    pub finished_at: Option<Timestamp>,
}

/// Why a task is where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The task's id.
    pub id: Uuid,
    /// Where the task is.
    pub status: TaskStatus,
    /// The reasons, the most important first.
    pub reasons: Vec<Reason>,
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    /// The reason in one word.
    pub code: ReasonCode,
    /// The same for people.
    pub detail: String,
    /// The executor concerned.
    #[schema(required = true)]
    pub executor: Option<String>,
    /// Until when it holds.
    #[schema(required = true)]
    pub until: Option<Timestamp>,
    /// For `behind_others`: how many, counted up to 1,000. For `executor_full` and
    /// `queue_full`: the concurrency. For `no_worker`: how many tasks of the executor run.
    #[schema(required = true)]
    pub count: Option<u32>,
}

/// What keeps a task from running, or who runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReasonCode {
    /// The database holds what cannot be read, of the task or of its executor; `detail` says what.
    Unreadable,
    /// The task has ended.
    Finished,
    /// An executor holds its lease until `until`.
    Leased,
    /// Somebody asked to cancel it; the executor has until `until`.
    CancelRequested,
    /// It waits for `run_after`, which is `until`.
    WaitsForTime,
    /// No executor serves its task path.
    Unrouted,
    /// Its executor is paused.
    ExecutorPaused,
    /// Its executor could not be reached, or asked to wait until `until`.
    ExecutorHeld,
    /// Its executor runs as many tasks as it may.
    ExecutorFull,
    /// Its queue is paused.
    QueuePaused,
    /// Its queue runs as many tasks as it may; `detail` names some.
    QueueFull,
    /// The process that was asked runs as much as it may; `detail` names the setting. Other processes
    /// of the same database may have room.
    ProcessFull,
    /// No worker of its executor has asked for tasks of its queue lately; `detail` says when one asked
    /// last. Those that there are may be busy: they run `count` tasks.
    NoWorker,
    /// `count` tasks of the same executor come first.
    BehindOthers,
    /// Nothing keeps it: it is about to start.
    AboutToStart,
}
