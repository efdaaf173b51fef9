//! Describes path parameters and headers for the OpenAPI document.
#![expect(dead_code, reason = "their descriptions are read, not their values")]

use nightshift_openapi::{
    examples::{EVENT_ID, EXECUTOR, PLUGIN, QUEUE, TASK_EVENT_ID, TASK_ID, TOKEN, TRACEPARENT},
    schema::{Name, QueueName},
};
use utoipa::IntoParams;
use uuid::Uuid;

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OfTask {
    /// The task's id. A malformed one is one that was never given.
    #[param(example = json!(TASK_ID))]
    id: Uuid,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OfExecutor {
    /// The executor's name.
    #[param(value_type = Name, example = json!(EXECUTOR))]
    name: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OfPlugin {
    /// The plugin's name.
    #[param(value_type = Name, example = json!(PLUGIN))]
    name: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OfQueue {
    /// The queue's name.
    #[param(value_type = QueueName, example = json!(QUEUE))]
    name: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OfToken {
    /// The token's name.
    #[param(value_type = Name, example = "tom-web")]
    name: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OfLease {
    /// The lease's token. A malformed one is one whose attempt is over.
    #[param(pattern = "^[0-9a-f]{48}$", example = json!(TOKEN))]
    token: String,
}

/// Headers of a reader of all events.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(super) struct AllSeen {
    /// The `id` of the last event that was seen.
    #[param(
        rename = "Last-Event-ID",
        pattern = r"^[0-9]{1,18}(\.[0-9]{1,9})?$",
        example = json!(EVENT_ID)
    )]
    last_event_id: Option<String>,
}

/// Headers of a reader of one task's events.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(super) struct TaskSeen {
    /// The `id` of the last event that was seen.
    #[param(
        rename = "Last-Event-ID",
        pattern = r"^[0-9]{1,18}\.[0-9]{1,18}\.[0-9]{1,10}$",
        example = json!(TASK_EVENT_ID)
    )]
    last_event_id: Option<String>,
}

/// Headers of a request that enqueues.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(super) struct Traced {
    /// W3C trace context, passed on to the executor. One that is not valid is ignored.
    #[param(example = json!(TRACEPARENT))]
    traceparent: Option<String>,
}

/// Headers of a request that enqueues one task.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(super) struct Enqueueing {
    /// `wait=S` answers when the task has ended, or after S seconds, at most 50 (RFC 7240). Other
    /// preferences are ignored.
    #[param(rename = "Prefer", example = "wait=10")]
    prefer: Option<String>,
    /// Makes the request safe to repeat: 1 to 255 visible characters, with or without quotation
    /// marks around them. Kept as long as the task.
    #[param(
        rename = "Idempotency-Key",
        pattern = r#"^([!-~]|[!#-~][ -~]{0,253}[!-~]|"[ -~]{0,253}[!#-~]|"[ -~]{1,255}")$"#,
        example = "m31-2026-11-25"
    )]
    idempotency_key: Option<String>,
}
