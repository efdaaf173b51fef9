use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    clock::{Clock, later},
    store::{self, Store},
};

/// How long to leave the database alone after a sweep failed.
const SWEEP_RETRY: Duration = Duration::from_secs(1);

/// Sweeps whenever the store's alarm goes off: tasks become due, expire, or lose their lease at
/// that very time.
pub async fn reap(store: Store, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
    let mut alarm = store.alarm();
    // What a process before left behind rang no alarm.
    let mut next_at = clock.now();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = alarm.changed() => {
                if changed.is_err() {
                    return;
                }
                let at = *alarm.borrow_and_update();
                next_at = at.map_or(next_at, |at| at.min(next_at));
                continue;
            }
            () = clock.sleep_until(next_at) => {}
        }
        let now = clock.now();
        next_at = match store.sweep().await {
            Ok(()) => {
                let at = *alarm.borrow_and_update();
                let latest = later(now, store.sweep_period());
                at.map_or(latest, |at| at.min(latest))
            }
            Err(error) => {
                if !matches!(error, store::Error::Unavailable(_)) {
                    tracing::error!(error = &error as &dyn std::error::Error, "a sweep failed");
                }
                later(now, SWEEP_RETRY)
            }
        };
    }
}
