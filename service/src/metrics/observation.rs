//! Events that are counted in metrics after the commit of the transaction in which they happened.

use std::time::Duration;

use crate::domain::attempt::{FailureKind, Outcome};

/// Something that a transaction did and that is counted in metrics. It is counted after the commit,
/// since a rolled-back transaction did nothing.
#[derive(Clone, Debug)]
pub enum Observation {
    /// An event of this kind was written.
    Told(&'static str),
    /// An attempt began. `wait` is the time since its task could have started.
    Started {
        place: Place,
        wait: Duration,
    },
    Ended(AttemptEnd),
}

/// The labels of a metric about tasks.
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

/// The value of the label `outcome`.
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
