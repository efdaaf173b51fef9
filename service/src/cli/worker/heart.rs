//! Keeps an attempt's lease alive, and brings the command's output to the task's log.

use std::{sync::Arc, time::Duration};

use nightshift_client::{
    Client, Error,
    types::{ErrorCode, Lease, RenewRequest, Timestamp},
};
use tokio::time::{Instant, sleep, sleep_until};

use super::{PAUSE_FIRST, logs::Logs};

/// Heartbeats in the life of a lease: two may fail before it runs out.
const BEATS_PER_LEASE: u32 = 3;
const PERIOD_MIN: Duration = Duration::from_millis(100);
/// A heartbeat also tells whether the task was cancelled, which nobody wants to wait for.
const PERIOD_MAX: Duration = Duration::from_secs(3);
/// Log lines wait no longer than this.
const LOGS_PERIOD: Duration = Duration::from_secs(2);

pub(super) struct Heart {
    client: Client,
    token: String,
    logs: Arc<Logs>,
    /// When the lease runs out, by a clock that nobody sets.
    expires: Instant,
    /// The same as the service shows it, which may be another time altogether.
    expires_at: Timestamp,
    period: Duration,
}

/// Why an attempt is not to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    Cancelled,
    /// The lease is gone: nothing is left to report.
    Lost,
    /// The worker was told to stop at once.
    Hurry,
}

impl Heart {
    pub(super) fn new(client: Client, lease: &Lease, logs: Arc<Logs>) -> Self {
        let started_at = lease.task.last_attempted_at.unwrap_or(lease.expires_at);
        let lasts = between(started_at, lease.expires_at);
        Self {
            client,
            token: lease.token.clone(),
            logs,
            expires: Instant::now() + lasts,
            expires_at: lease.expires_at,
            period: (lasts / BEATS_PER_LEASE).clamp(PERIOD_MIN, PERIOD_MAX),
        }
    }

    pub(super) fn expires(&self) -> Instant {
        self.expires
    }

    /// Beats until there is a reason to stop.
    pub(super) async fn beat(&mut self) -> Stopped {
        let mut due = Instant::now() + self.period;
        loop {
            sleep_until(due.min(Instant::now() + LOGS_PERIOD).min(self.expires)).await;
            let now = Instant::now();
            if now < due && now < self.expires && self.logs.is_empty() {
                continue;
            }
            due = now + self.period;
            match self.renew().await {
                Ok(false) => {}
                Ok(true) => return Stopped::Cancelled,
                Err(error) if error.code() == Some(ErrorCode::LeaseLost) => return Stopped::Lost,
                // Nobody answers, so the lease may have gone to somebody else.
                Err(_) if self.expires <= Instant::now() => return Stopped::Lost,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a heartbeat did not get through"
                    );
                    due = Instant::now() + PAUSE_FIRST;
                }
            }
        }
    }

    /// Beats on, whatever the service says. Never returns.
    pub(super) async fn beat_on(&mut self) -> std::convert::Infallible {
        loop {
            self.beat().await;
            sleep(self.period).await;
        }
    }

    /// Sends what is left of the log.
    pub(super) async fn send_logs(&mut self) {
        while !self.logs.is_empty() {
            if self.renew().await.is_err() {
                return;
            }
        }
    }

    /// Says whether cancelling was asked for.
    async fn renew(&mut self) -> Result<bool, Error> {
        let request = RenewRequest { progress: None, logs: self.logs.take() };
        match self.client.renew_lease(&self.token, &request).await {
            Ok(renewal) => {
                self.expires += between(self.expires_at, renewal.expires_at);
                self.expires_at = renewal.expires_at;
                Ok(renewal.cancel_requested)
            }
            Err(error) => {
                self.logs.put_back(request.logs);
                Err(error)
            }
        }
    }
}

fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    let span = jiff::Timestamp::from(later).duration_since(earlier.into());
    Duration::try_from(span).unwrap_or_default()
}
