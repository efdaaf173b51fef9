use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Queue, number::whole};

/// Tasks by how they have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndedCounts {
    /// SUCCESSFUL ones.
    pub successful: u64,
    /// FAILED ones.
    pub failed: u64,
    /// CANCELLED ones.
    pub cancelled: u64,
}

/// The whole at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    /// READY tasks that are due.
    pub due: u64,
    /// READY tasks that are due later.
    pub scheduled: u64,
    /// RUNNING tasks.
    pub running: u64,
    /// Tasks that have ended and are still kept.
    pub ended: EndedCounts,
    /// Due tasks that no executor serves.
    pub unrouted: u64,
    /// Those that ended within the last minute.
    pub ended_last_minute: EndedCounts,
    /// Those that ended within the last hour.
    pub ended_last_hour: EndedCounts,
    /// The queues, by name.
    pub queues: Vec<Queue>,
}

/// What `POST /prune` takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PruneRequest {
    /// Delete nothing; only say what would be deleted.
    #[serde(default)]
    pub dry_run: bool,
    /// Keep SUCCESSFUL and CANCELLED tasks for so long after their end; what the service is set
    /// to by default, 0 for not at all.
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 3_153_600_000_i64, example = 604_800)]
    pub retention_seconds: Option<i64>,
    /// The same for FAILED tasks.
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 3_153_600_000_i64, example = 2_592_000)]
    pub retention_failed_seconds: Option<i64>,
}

/// What was deleted, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pruned {
    /// So many tasks.
    pub tasks: EndedCounts,
    /// There is more to delete than one request does: ask again.
    pub remaining: bool,
}
