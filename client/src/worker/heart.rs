//! Keeps an attempt's lease alive, and brings its notes to the service.

use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBackoff};
use nightshift_openapi::{ErrorCode, Lease, Timestamp};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::notes::Notes;
use crate::{Client, Error, retry::backoff};

/// Heartbeats in the life of a lease: two may fail before it runs out.
const BEATS_PER_LEASE: u32 = 3;
const PERIOD_MIN: Duration = Duration::from_millis(100);
/// A heartbeat also tells whether the task was cancelled, which nobody wants to wait for.
const PERIOD_MAX: Duration = Duration::from_secs(3);
/// Notes wait no longer than this.
const NOTES_PERIOD: Duration = Duration::from_secs(2);
/// How long a heartbeat may take, before another is sent over another connection.
const BEAT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long after its deadline an attempt may still hear that it is over.
const LATE_ANSWER: Duration = Duration::from_secs(1);

pub(super) struct Heart {
    client: Client,
    token: String,
    notes: Arc<Notes>,
    /// When the lease runs out, by a clock that nobody sets.
    expires: Instant,
    /// The same as the service shows it, which may be another time altogether.
    expires_at: Timestamp,
    /// When the attempt's time is over, and with it every lease.
    deadline: Instant,
    period: Duration,
    /// The pauses between heartbeats while none gets through.
    missed: Option<ExponentialBackoff>,
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
            deadline: Instant::now() + self::lasts(lease, lease.deadline),
            period: (lasts / BEATS_PER_LEASE).clamp(PERIOD_MIN, PERIOD_MAX),
            missed: None,
            cancel_requested: false,
        }
    }

    pub(super) fn expires(&self) -> Instant {
        self.expires
    }

    /// The longest pause before what the service has not heard is said again: it may give the lease
    /// its time anew when it is back, and no more.
    pub(super) fn pause_max(&self) -> Duration {
        self.period
    }

    pub(super) fn cancel_requested(&self) -> bool {
        self.cancel_requested
    }

    /// Beats until the attempt is `done`, and all its notes are sent; or else until its lease is
    /// lost. Cancels `stop` when the service wants the work to stop.
    ///
    /// Lost it is when the service says so, or the attempt's time is over. A service that is away
    /// says nothing: it may have been away for all others, too, and give the lease its time anew.
    pub(super) async fn beat(&mut self, done: &CancellationToken, stop: &CancellationToken) {
        let mut due = Instant::now() + self.period;
        loop {
            tokio::select! {
                () = done.cancelled() => break,
                () = sleep_until(due.min(Instant::now() + NOTES_PERIOD).min(self.deadline)) => {}
            }
            let now = Instant::now();
            let idle = self.notes.is_empty() || self.missed.is_some();
            if now < due && now < self.deadline && idle {
                continue;
            }
            due = now + self.period;
            match self.renew().await {
                Beat::Alive => {}
                Beat::Cancelled => {
                    self.cancel_requested = true;
                    stop.cancel();
                }
                Beat::Missed => due = Instant::now() + self.pause(),
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
        let now = Instant::now();
        let limit = (now + BEAT_TIMEOUT).min(self.deadline.max(now) + LATE_ANSWER);
        let renewal = self.client.renew_lease(&self.token, &request);
        let error = match timeout_at(limit, renewal).await {
            Ok(Ok(renewal)) => {
                self.expires += between(self.expires_at, renewal.expires_at);
                self.expires_at = renewal.expires_at;
                if self.missed.take().is_some() {
                    tracing::info!("heartbeats get through again");
                }
                return if renewal.cancel_requested { Beat::Cancelled } else { Beat::Alive };
            }
            Ok(Err(error)) => Some(error),
            Err(_elapsed) => None,
        };
        let code = error.as_ref().and_then(Error::code);
        if code == Some(ErrorCode::LeaseLost) || self.deadline <= Instant::now() {
            return Beat::Lost;
        }
        if self.missed.is_none() {
            let error = error.as_ref().map(|error| error as &dyn std::error::Error);
            tracing::warn!(error, "a heartbeat did not get through; the work goes on");
        }
        // What was refused for what it says must not hold up the next one.
        if error.is_none_or(|error| error.is_transient()) {
            self.notes.put_back(request);
        }
        Beat::Missed
    }

    fn pause(&mut self) -> Duration {
        let longest = self.pause_max();
        let pauses = self.missed.get_or_insert_with(|| backoff().build());
        pauses.next().unwrap_or(longest).min(longest)
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
