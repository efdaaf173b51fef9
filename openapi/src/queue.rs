use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::{Timestamp, number::whole};

/// What `PATCH /queues/{name}` takes; what is left out stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueChange {
    /// Starts none of its tasks while true; what runs goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// How many of its tasks may run at once, 1 to 10,000, over all executors and processes of
    /// the service; null: no limit.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 10000)]
    pub concurrency: Option<Option<i64>>,
}

/// A `null` that is there takes the limit away.
#[expect(clippy::option_option, reason = "null is a value, and not the same as nothing")]
pub(crate) fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<i64>>, D::Error> {
    whole(deserializer).map(Some)
}

/// A queue as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Queue {
    /// Its name. A queue is there as soon as a task names it.
    pub name: String,
    /// Starts nothing while true.
    pub paused: bool,
    /// How many of its tasks may run at once; null: no limit.
    #[schema(required = true)]
    pub concurrency: Option<u32>,
    /// READY tasks that are due.
    pub depth: u64,
    /// READY tasks that are due later.
    pub scheduled: u64,
    /// RUNNING tasks.
    pub in_flight: u64,
    /// When the first of the due ones became due; null where none is.
    #[schema(required = true)]
    pub oldest_due_at: Option<Timestamp>,
    /// For how long that one has waited.
    #[schema(required = true)]
    pub oldest_age_seconds: Option<f64>,
}

/// Queues that hold live tasks or have settings, by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueList {
    /// The queues of this page.
    pub items: Vec<Queue>,
    /// Give it as `cursor` to read on; null on the last page.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}
