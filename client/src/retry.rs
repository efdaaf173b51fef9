use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use nightshift_openapi::ErrorCode;
use tokio::time::Instant;

use crate::Error;

/// The first pause, which doubles up to the longest; each is lengthened at random by up to as much
/// again, so that many clients do not come back at once.
pub(crate) const PAUSE_FIRST: Duration = Duration::from_millis(200);
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How often a call that failed is made again by itself, and until when.
///
/// By default a call is made 6 times in all, and not again later than 30 seconds after it first
/// failed. `Retry-After` is obeyed: where it asks for more time than is left, the error is
/// returned at once. [`Retry::never`] returns every error at once.
///
/// Only what passes by itself is tried again, and only where that can do no harm:
///
/// | What is called | It certainly did not begin (1) | Nobody knows (2) |
/// |---|---|---|
/// | all that reads: `get_…`, `list_…`, `explain_task` | again | again |
/// | `put_executor`, `put_plugin`, `update_executor`, `update_queue`: says what is to be | again | again |
/// | `delete_…` | again; what the first try deleted is then `…_not_found` | the same |
/// | `create_task` with an `id` or an idempotency key (`enqueue` always has one) | again; [`created`](crate::Enqueued::created) is false for what an earlier try stored | the same |
/// | `create_tasks` where each task has an `id` | again | again |
/// | `create_task`, `create_tasks` without | again | no: the task could be there twice, also with a `unique_key`, whose task may have ended |
/// | `cancel_task` | again | again: cancelled twice is cancelled |
/// | `retry_task` | again | no: it could have failed anew, and be run once more than asked for |
/// | `prune_tasks` | again | no: the answer would leave out what the first try deleted |
/// | `roll_back_plugin` with a digest | again | again |
/// | `roll_back_plugin` without | again | no: it could go back two versions |
/// | `lease_tasks` | again | no: leases may have been lost with the answer; they run out by themselves |
/// | `renew_lease` without log lines | again | again |
/// | `renew_lease` with log lines | again | no: they could be logged twice |
/// | `finish_lease`, `finish_leases`, `release_lease` | again | again; `lease_lost` may then mean that the first try was recorded |
///
/// 1. The connection could not be made, or the answer is 408, 425, 429, or 503 with the code
///    `overloaded` or `shutting_down`.
/// 2. The connection broke, no answer came in time, or the answer is 502, 504 or another 503 (such
///    as `unavailable`: the database went away in the middle).
///
/// All other answers are final. [`Error::is_transient`] tells of an error that was returned
/// whether trying later may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    tries: usize,
    within: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { tries: 6, within: Duration::from_secs(30) }
    }
}

impl Retry {
    /// Returns every error at once.
    #[must_use]
    pub fn never() -> Self {
        Self { tries: 1, within: Duration::ZERO }
    }

    /// Makes each call so often in all, at least once.
    #[must_use]
    pub fn tries(self, tries: usize) -> Self {
        Self { tries, ..self }
    }

    /// Makes no call again later than this after it first failed.
    #[must_use]
    pub fn within(self, within: Duration) -> Self {
        Self { within, ..self }
    }

    pub(crate) fn pauses(self) -> Pauses {
        let growing = backoff().with_max_times(self.tries.saturating_sub(1)).build();
        Pauses { growing, within: self.within, until: None }
    }
}

/// Pauses that grow, without an end.
pub(crate) fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(PAUSE_FIRST)
        .with_max_delay(PAUSE_MAX)
        .without_max_times()
        .with_jitter()
}

/// The pauses of one call.
pub(crate) struct Pauses {
    growing: ExponentialBackoff,
    within: Duration,
    /// Set by the first failure, so that the time of a long poll does not count.
    until: Option<Instant>,
}

impl Pauses {
    /// How long to wait before the next try; `None` if there is to be none.
    pub(crate) fn after(&mut self, error: &Error) -> Option<Duration> {
        let now = Instant::now();
        let until = *self.until.get_or_insert(now + self.within);
        // What many were told to wait is spread by the pause as well.
        let pause = self.growing.next()? + error.retry_after().unwrap_or_default();
        (now + pause <= until).then_some(pause)
    }
}

/// When a call may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Twice is as good as once.
    Always,
    /// Only if it certainly did not begin.
    IfNotBegun,
}

impl Repeat {
    pub(crate) fn allows(self, error: &Error) -> bool {
        match fate(error) {
            Fate::NotBegun => true,
            Fate::Unknown => self == Self::Always,
            Fate::Answered => false,
        }
    }
}

/// What became of a call that failed.
enum Fate {
    NotBegun,
    Unknown,
    Answered,
}

fn fate(error: &Error) -> Fate {
    match error {
        Error::Transport(error) if error.is_connect() => Fate::NotBegun,
        Error::Transport(error) if error.is_builder() => Fate::Answered,
        Error::Transport(_) => Fate::Unknown,
        Error::Problem { problem, .. } => match problem.error_code() {
            Some(ErrorCode::Overloaded | ErrorCode::ShuttingDown) => Fate::NotBegun,
            _ => fate_by_status(problem.status),
        },
        Error::Foreign { status, .. } => fate_by_status(*status),
        Error::Unreadable { .. }
        | Error::Stream(_)
        | Error::Address(_)
        | Error::Token
        | Error::Request(_) => Fate::Answered,
    }
}

fn fate_by_status(status: u16) -> Fate {
    match status {
        408 | 425 | 429 => Fate::NotBegun,
        // Proxies say so of a connection that they could not make, and of one that broke.
        502..=504 => Fate::Unknown,
        _ => Fate::Answered,
    }
}
