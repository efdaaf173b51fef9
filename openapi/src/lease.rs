use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Json, Progress, Timestamp, object};

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
    #[serde(default, deserialize_with = "object::list", skip_serializing_if = "Vec::is_empty")]
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

/// The end of an attempt: exactly one of the three fields.
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
    pub next_cursor: Option<String>,
    /// Lines that were dropped because the log was full; the oldest go first.
    pub dropped: u64,
}
