use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Json, Problem, Progress, Task, TaskStatus, Timestamp, bounded,
    number::whole,
    object,
    schema::{Key, QueueName, QueuePattern},
};

/// A worker asks for tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseRequest {
    /// Names the worker in the tasks' `worker_ids`: 1 to 255 characters.
    #[schema(value_type = Key)]
    pub worker_id: String,
    /// 1 to 1,000 tasks; 1 by default.
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000, example = 10)]
    pub max_tasks: Option<i64>,
    /// How long to wait for the first one, 0 to 60 seconds; 0 by default. The answer comes after 50
    /// at most, since proxies wait for a minute.
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 60, example = 20)]
    pub wait_seconds: Option<i64>,
    /// Only tasks of these queues, at most 100; `*` among them, or nothing, means all.
    #[serde(
        default,
        deserialize_with = "bounded::optional_list::<100, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<Vec<QueuePattern>>, max_items = 100)]
    pub queue_names: Option<Vec<String>>,
    /// No tasks of these queues, at most 100.
    #[serde(
        default,
        deserialize_with = "bounded::optional_list::<100, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<Vec<QueueName>>, max_items = 100)]
    pub exclude_queue_names: Option<Vec<String>>,
}

/// The tasks that a worker is to run; none if there was none in time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LeaseList {
    /// The first to start comes first.
    pub leases: Vec<Lease>,
}

/// The right to run one attempt of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Lease {
    /// For `/leases/{token}/renew`, `finish` and `release`.
    pub token: String,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// Attempts that the task has in all.
    pub max_attempts: u32,
    /// The attempt is given up then, unless the lease is renewed.
    pub expires_at: Timestamp,
    /// The attempt has timed out then, renewed or not.
    pub deadline: Timestamp,
    /// W3C trace context of the request that enqueued the task.
    #[schema(required = true)]
    pub traceparent: Option<String>,
    /// The record.
    pub task: Task,
}

/// A heartbeat: the attempt is alive. Both fields are optional.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// How far the attempt is; what was said before stays where this is left out.
    #[serde(
        default,
        deserialize_with = "object::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub progress: Option<Progress>,
    /// At most 1,000 lines for the task's log.
    #[serde(
        default,
        deserialize_with = "bounded::objects::<1_000, _, _>",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schema(max_items = 1000)]
    pub logs: Vec<LogLineRequest>,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LeaseRenewal {
    /// The attempt is given up then, unless it is renewed again.
    pub expires_at: Timestamp,
    /// Stop, and finish with `{"cancelled": true}`.
    pub cancel_requested: bool,
}

/// The end of an attempt: one of the three fields at most. Without any it succeeded with null: many
/// clients leave out what is null.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FinishRequest {
    /// The task succeeded with this value, which may be null.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub return_value: Option<Json>,
    /// The attempt failed.
    #[serde(
        default,
        deserialize_with = "object::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub error: Option<ErrorReport>,
    /// The attempt was stopped because cancelling was asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
}

/// The ends of several attempts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FinishBatch {
    /// 1 to 1,000 of them.
    #[serde(deserialize_with = "bounded::objects::<1_000, _, _>")]
    #[schema(min_items = 1, max_items = 1000)]
    pub results: Vec<FinishEntry>,
}

/// The end of one attempt of several: one of the three fields at most beside the token. Without any it
/// succeeded with null.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FinishEntry {
    /// The lease's token.
    pub token: String,
    /// The task succeeded with this value, which may be null.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub return_value: Option<Json>,
    /// The attempt failed.
    #[serde(
        default,
        deserialize_with = "object::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub error: Option<ErrorReport>,
    /// The attempt was stopped because cancelling was asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
}

impl FinishEntry {
    /// The end of the attempt with this token.
    #[must_use]
    pub fn new(token: impl Into<String>, end: FinishRequest) -> Self {
        let FinishRequest { return_value, error, cancelled } = end;
        Self { token: token.into(), return_value, error, cancelled }
    }
}

/// What became of each of several ends, in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FinishAnswers {
    /// One for each.
    pub results: Vec<FinishAnswer>,
}

/// What became of one of several ends: either a status or a problem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FinishAnswer {
    /// The lease's token.
    pub token: String,
    /// The task's status now that the end is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<TaskStatus>,
    /// Why nothing was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// A `null` that is there is a value, not a missing one.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

/// What an executor tells of an error. As `application/problem+json` body of a failed call, it
/// may carry other members beside these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorReport {
    /// The class of the exception, such as `builtins.ValueError`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "builtins.ValueError")]
    pub exception_class_path: Option<String>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "no such target")]
    pub message: Option<String>,
    /// Where it went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceback: Option<String>,
    /// False: do not try again, whatever attempts are left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// For whoever looks for a fault.
    Debug,
    /// What happens.
    #[default]
    Info,
    /// Something to look at.
    Warning,
    /// Something went wrong.
    Error,
}

/// A line for the task's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogLineRequest {
    /// When it was written; the time of the request by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// `info` by default.
    #[serde(default)]
    pub level: LogLevel,
    /// At most 8 KiB; longer ones are cut.
    pub message: String,
}

/// A line of the task's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// When it was written.
    pub at: Timestamp,
    /// How much it matters.
    pub level: LogLevel,
    /// The attempt that wrote it.
    pub attempt: u32,
    /// The text.
    pub message: String,
}

/// One page of a task's log, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LogList {
    /// The lines of this page.
    pub items: Vec<LogLine>,
    /// Give it as `cursor` to read on; null on the last page.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
    /// Lines that were dropped because the log was full; the oldest go first.
    pub dropped: u64,
}
