use std::time::Duration;

use super::Timestamp;

/// How long tasks are kept after they have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// SUCCESSFUL and CANCELLED ones.
    pub ended: Duration,
    /// FAILED ones, which somebody may want to look at.
    pub failed: Duration,
}

impl Retention {
    pub const ENDED_DEFAULT: Duration = Duration::from_hours(7 * 24);
    pub const FAILED_DEFAULT: Duration = Duration::from_hours(30 * 24);

    /// What ended before these times is over: SUCCESSFUL and CANCELLED tasks, and FAILED ones.
    pub fn cutoffs(self, now: Timestamp) -> (Timestamp, Timestamp) {
        let before = |age: Duration| now.saturating_sub(age).unwrap_or(Timestamp::MIN);
        (before(self.ended), before(self.failed))
    }
}

/// Tasks by how they have ended.
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
