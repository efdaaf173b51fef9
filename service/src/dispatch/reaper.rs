//! Runs the store's sweep, which does what is due at a certain time: makes scheduled tasks
//! available, fails tasks that have expired, and ends attempts whose lease has run out.
//!
//! The store announces the time of the next such event through an alarm (a watch channel that the
//! writer updates after each commit). The loop sleeps until then, and never longer than [`PERIOD`],
//! because on PostgreSQL other processes may have written rows for which no alarm was set here.

use std::{future::pending, pin::pin, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    domain::Timestamp,
    store::{self, Store},
};

/// The longest time between two sweeps. It finds rows for which no alarm was set, and is a regular
/// check that the database accepts the reports of workers.
const PERIOD: Duration = Duration::from_secs(1);
/// How long the loop leaves the database alone after a sweep failed.
const SWEEP_RETRY: Duration = Duration::from_secs(1);

/// Sweeps whenever the store's alarm goes off, which is at the very time at which a task becomes
/// due, expires, or loses its lease.
pub async fn reap(store: Store, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
    let mut alarm = store.alarm();
    // Sweep at once: rows that an earlier process left behind have set no alarm in this one.
    let mut rest = Duration::ZERO;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = ring(&mut alarm, &*clock, rest) => {}
        }
        rest = PERIOD;
        if let Err(error) = store.sweep().await {
            if !matches!(error, store::Error::Unavailable(_)) {
                tracing::error!(error = &error as &dyn std::error::Error, "a sweep failed");
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = clock.sleep(SWEEP_RETRY) => rest = Duration::ZERO,
            }
        }
    }
}

/// Returns at the alarm's time, or after `rest` at the latest. The limit is needed because the
/// alarm is a time of day, and the machine's clock may be set back.
async fn ring(alarm: &mut watch::Receiver<Option<Timestamp>>, clock: &dyn Clock, rest: Duration) {
    let mut rested = pin!(clock.sleep(rest));
    // If the alarm moves while this waits, begin again with the new time. `borrow_and_update` marks
    // the value as seen, so that a change after it is noticed by `changed`.
    loop {
        let at = *alarm.borrow_and_update();
        let ringing = async {
            match at {
                Some(at) => clock.sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = ringing => return,
            () = &mut rested => return,
            Ok(()) = alarm.changed() => {}
        }
    }
}
