use std::time::Duration;

use crate::domain::attempt::{FailureKind, Outcome};

/// Something worth counting that a transaction did; counted once it is committed.
#[derive(Clone, Debug)]
pub enum Observation {
    /// An event of this kind was written.
    Told(&'static str),
    /// An attempt began, so long after its task could have.
    Started {
        place: Place,
        wait: Duration,
    },
    Ended(AttemptEnd),
}

/// Where a task is worked on.
#[derive(Clone, Debug)]
pub struct Place {
    pub queue: String,
    pub executor: String,
    pub executor_kind: &'static str,
}

/// An attempt that ended.
#[derive(Clone, Debug)]
pub struct AttemptEnd {
    pub place: Place,
    pub outcome: &'static str,
    pub took: Duration,
}

/// An outcome as a label.
pub fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded(_) => "successful",
        Outcome::Failed(failure) => match failure.kind {
            FailureKind::Exception => "failed",
            FailureKind::Timeout => "timeout",
            FailureKind::Lost => "lost",
            FailureKind::Rejected => "rejected",
            FailureKind::Trap => "trap",
            FailureKind::Expired => "expired",
            FailureKind::Cancelled => "cancelled",
            FailureKind::Unreachable => "unreachable",
        },
        Outcome::Undelivered { .. } => "unreachable",
        Outcome::HandedBack => "handed_back",
        Outcome::Cancelled => "cancelled",
    }
}
