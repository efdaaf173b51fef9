use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Json, Timestamp,
    schema::{Kwargs, Labels, QueueName, TaskPath},
};

/// Asks an HTTP executor to run an attempt: a payload by the Standard Webhooks specification,
/// signed in the headers `webhook-id`, `webhook-timestamp` and `webhook-signature`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExecuteMessage {
    /// Always `task.execute`.
    #[serde(rename = "type")]
    pub message_type: ExecuteType,
    /// When the service said it.
    pub timestamp: Timestamp,
    /// The attempt to run.
    pub data: ExecuteData,
}

/// Tells an HTTP executor that an attempt is not wanted any more: it was cancelled, timed out, or
/// its lease ran out. Signed like [`ExecuteMessage`]; any answer will do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CancelMessage {
    /// Always `task.cancel`.
    #[serde(rename = "type")]
    pub message_type: CancelType,
    /// When the service said it.
    pub timestamp: Timestamp,
    /// The attempt to stop.
    pub data: CancelData,
}

/// The type of an [`ExecuteMessage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum ExecuteType {
    /// Run the attempt.
    #[serde(rename = "task.execute")]
    Execute,
}

/// The type of a [`CancelMessage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum CancelType {
    /// Stop the attempt.
    #[serde(rename = "task.cancel")]
    Cancel,
}

/// One attempt at a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExecuteData {
    /// The same over all attempts, for executors that want to recognise work they did.
    pub task_id: Uuid,
    /// The work's name.
    #[schema(value_type = TaskPath)]
    pub task_path: String,
    /// Positional arguments, as they came.
    #[schema(value_type = Vec<Value>)]
    pub args: Json,
    /// Keyword arguments, as they came.
    #[schema(value_type = Kwargs)]
    pub kwargs: Json,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// How often the task is tried in all.
    pub max_attempts: u32,
    /// The queue it waited in.
    #[schema(value_type = QueueName)]
    pub queue_name: String,
    /// -100 to 100.
    #[schema(minimum = -100, maximum = 100)]
    pub priority: i16,
    /// What the task may be found by.
    #[schema(value_type = Labels)]
    pub labels: BTreeMap<String, String>,
    /// When the task was enqueued.
    pub enqueued_at: Timestamp,
    /// The attempt is given up then.
    pub deadline: Timestamp,
    /// Where to report after a 202.
    pub lease: MessageLease,
}

/// The attempt that is to stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CancelData {
    /// The task.
    pub task_id: Uuid,
    /// Which attempt at it.
    pub attempt: u32,
    /// Where to report that it stopped.
    pub lease: MessageLease,
}

/// The right to report on one attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MessageLease {
    /// Names the attempt; whoever has it may report on it.
    pub token: String,
    /// `/renew`, `/finish` and `/release` are posted below this address.
    #[schema(example = "http://127.0.0.1:8700/leases/AAAAAAAAAAH2Rk1qv0m1R9rXw3n0l9mT")]
    pub url: String,
}
