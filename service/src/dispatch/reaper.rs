use std::{future::pending, pin::pin, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    domain::Timestamp,
    store::{self, Store},
};

/// The longest time between two sweeps: for what no alarm announced, and as a sign that the
/// database takes reports.
const PERIOD: Duration = Duration::from_secs(1);
/// How long to leave the database alone after a sweep failed.
const SWEEP_RETRY: Duration = Duration::from_secs(1);

/// Sweeps whenever the store's alarm goes off: tasks become due, expire, or lose their lease at
/// that very time.
pub async fn reap(store: Store, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
    let mut alarm = store.alarm();
    // What a process before left behind rang no alarm.
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

/// Returns at the alarm's time, or after `rest` at the latest: the alarm is a time of day, which
/// somebody may set back.
async fn ring(alarm: &mut watch::Receiver<Option<Timestamp>>, clock: &dyn Clock, rest: Duration) {
    let mut rested = pin!(clock.sleep(rest));
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
