//! How long finished tasks are kept before the pruner deletes them.

use std::time::Duration;

use super::Timestamp;

/// How long tasks are kept after their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// For SUCCESSFUL and CANCELLED tasks.
    pub ended: Duration,
    /// For FAILED tasks. Longer by default, since their errors may have to be examined.
    pub failed: Duration,
}

impl Retention {
    pub const ENDED_DEFAULT: Duration = Duration::from_hours(7 * 24);
    pub const FAILED_DEFAULT: Duration = Duration::from_hours(30 * 24);

    /// Tasks that ended before these times are deleted: the first is for SUCCESSFUL and CANCELLED
    /// tasks, the second for FAILED ones.
    pub fn cutoffs(self, now: Timestamp) -> (Timestamp, Timestamp) {
        let before = |age: Duration| now.saturating_sub(age).unwrap_or(Timestamp::MIN);
        (before(self.ended), before(self.failed))
    }
}

/// How many tasks ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndedCounts {
    pub successful: u64,
    pub failed: u64,
    pub cancelled: u64,
}

impl EndedCounts {
    pub fn total(self) -> u64 {
        self.successful + self.failed + self.cancelled
    }

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            successful: self.successful + other.successful,
            failed: self.failed + other.failed,
            cancelled: self.cancelled + other.cancelled,
        }
    }
}
