//! Keeps an attempt's lease alive, and brings its notes to the service.

use std::{sync::Arc, time::Duration};

use nightshift_openapi::{ErrorCode, Lease, Timestamp};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::notes::Notes;
use crate::{Client, retry::PAUSE_FIRST};

/// Heartbeats in the life of a lease: two may fail before it runs out.
const BEATS_PER_LEASE: u32 = 3;
const PERIOD_MIN: Duration = Duration::from_millis(100);
/// A heartbeat also tells whether the task was cancelled, which nobody wants to wait for.
const PERIOD_MAX: Duration = Duration::from_secs(3);
/// Notes wait no longer than this.
const NOTES_PERIOD: Duration = Duration::from_secs(2);
/// How long after the end of its lease an attempt may still hear that it goes on.
const LATE_ANSWER: Duration = Duration::from_secs(1);

pub(super) struct Heart {
    client: Client,
    token: String,
    notes: Arc<Notes>,
    /// When the lease runs out, by a clock that nobody sets.
    expires: Instant,
    /// The same as the service shows it, which may be another time altogether.
    expires_at: Timestamp,
    period: Duration,
    cancel_requested: bool,
}

/// What a heartbeat came to.
enum Beat {
    Alive,
    Cancelled,
    Missed,
    Lost,
}

impl Heart {
    pub(super) fn new(client: Client, lease: &Lease, notes: Arc<Notes>) -> Self {
        let lasts = lasts(lease, lease.expires_at);
        Self {
            client,
            token: lease.token.clone(),
            notes,
            expires: Instant::now() + lasts,
            expires_at: lease.expires_at,
            period: (lasts / BEATS_PER_LEASE).clamp(PERIOD_MIN, PERIOD_MAX),
            cancel_requested: false,
        }
    }

    pub(super) fn expires(&self) -> Instant {
        self.expires
    }

    pub(super) fn cancel_requested(&self) -> bool {
        self.cancel_requested
    }

    /// Beats until the attempt is `done`, and all its notes are sent; or else until its lease is
    /// lost. Cancels `stop` when the service wants the work to stop.
    pub(super) async fn beat(&mut self, done: &CancellationToken, stop: &CancellationToken) {
        let mut due = Instant::now() + self.period;
        loop {
            tokio::select! {
                () = done.cancelled() => break,
                () = sleep_until(due.min(Instant::now() + NOTES_PERIOD).min(self.expires)) => {}
            }
            let now = Instant::now();
            if now < due && now < self.expires && self.notes.is_empty() {
                continue;
            }
            due = now + self.period;
            match self.renew().await {
                Beat::Alive => {}
                Beat::Cancelled => {
                    self.cancel_requested = true;
                    stop.cancel();
                }
                Beat::Missed => due = Instant::now() + PAUSE_FIRST,
                Beat::Lost => return,
            }
        }
        while !self.notes.is_empty() {
            if matches!(self.renew().await, Beat::Missed | Beat::Lost) {
                return;
            }
        }
    }

    async fn renew(&mut self) -> Beat {
        let request = self.notes.take();
        let limit = self.expires.max(Instant::now()) + LATE_ANSWER;
        let renewal = self.client.renew_lease(&self.token, &request);
        // Nobody answers, so the lease may have gone to somebody else.
        let Ok(renewed) = timeout_at(limit, renewal).await else {
            return Beat::Lost;
        };
        let error = match renewed {
            Ok(renewal) => {
                self.expires += between(self.expires_at, renewal.expires_at);
                self.expires_at = renewal.expires_at;
                return if renewal.cancel_requested { Beat::Cancelled } else { Beat::Alive };
            }
            Err(error) => error,
        };
        if error.code() == Some(ErrorCode::LeaseLost) || self.expires <= Instant::now() {
            return Beat::Lost;
        }
        tracing::warn!(error = &error as &dyn std::error::Error, "a heartbeat did not get through");
        // What was refused for what it says must not hold up the next one.
        if error.is_transient() {
            self.notes.put_back(request);
        }
        Beat::Missed
    }
}

/// How much of an attempt's time there is until an instant of the service's.
pub(super) fn lasts(lease: &Lease, until: Timestamp) -> Duration {
    between(lease.task.last_attempted_at.unwrap_or(until), until)
}

fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    let span = jiff::Timestamp::from(later).duration_since(earlier.into());
    Duration::try_from(span).unwrap_or_default()
}
