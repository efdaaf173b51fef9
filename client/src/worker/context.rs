use std::{fmt, sync::Arc, time::Duration};

use nightshift_openapi::{Lease, LogLevel, Progress, Task};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::notes::Notes;

/// What a function knows of the attempt that it is run for. Clones are of the same attempt.
#[derive(Clone)]
pub struct Context {
    pub(super) lease: Arc<Lease>,
    pub(super) notes: Arc<Notes>,
    pub(super) stop: CancellationToken,
    pub(super) deadline: Instant,
}

impl Context {
    /// The task's record, as it was when the attempt began.
    pub fn task(&self) -> &Task {
        &self.lease.task
    }

    /// Which attempt at the task, from 1.
    pub fn attempt(&self) -> u32 {
        self.lease.attempt
    }

    /// All that the service said when it handed the task out. Heartbeats are sent without the
    /// function's doing.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Until the attempt times out, and the function is dropped.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Tells how far the attempt is: a fraction from 0 to 1, and words. It is sent within two
    /// seconds; of several the latest.
    pub fn progress(&self, fraction: f64, message: impl Into<String>) {
        // A heartbeat with another number would be refused.
        let fraction = Some(fraction.clamp(0.0, 1.0));
        self.notes.progress(Progress { fraction, message: Some(message.into()) });
    }

    /// Adds a line to the task's log. It is sent within two seconds.
    pub fn log(&self, level: LogLevel, message: impl AsRef<str>) {
        self.notes.log(level, message.as_ref());
    }

    /// Returns when the function should stop: the task is cancelled, or the worker stops and does
    /// not wait any longer. What the function returns of a cancelled task is of no interest; at
    /// the stop of a worker, a value still counts, and an error hands the task back.
    pub async fn cancelled(&self) {
        self.stop.cancelled().await;
    }

    /// Whether [`cancelled`](Self::cancelled) would return at once.
    pub fn is_cancelled(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// The same to hand on.
    pub fn cancellation(&self) -> CancellationToken {
        self.stop.clone()
    }
}

/// Without the token of its lease.
impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("task", &self.lease.task.id)
            .field("attempt", &self.lease.attempt)
            .finish_non_exhaustive()
    }
}
