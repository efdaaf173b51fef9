use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    domain::{event::EventRetention, retention::Retention},
    store::{self, Store},
};

/// How often to look for tasks that ended long ago.
const PERIOD: Duration = Duration::from_secs(30);
/// The pause between two steps of one round, in which others get on.
const PAUSE: Duration = Duration::from_millis(20);

/// So many times goes what is written of events between two looks into what may be kept of them.
const EVENT_GROWTH_PART: u64 = 8;
/// But it is no less than this.
const EVENT_GROWTH_MIN: u64 = 64 * 1024;

/// What is kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    pub tasks: Retention,
    pub events: EventRetention,
    /// Entries of the audit log.
    pub audit: Duration,
}

/// Deletes what ended long ago, old events and old entries of the audit log, round by round; and
/// sooner where many events are written.
pub async fn prune(store: Store, clock: Arc<dyn Clock>, keep: Keep, shutdown: CancellationToken) {
    let mut events_written = store.event_bytes();
    let growth = (keep.events.bytes / EVENT_GROWTH_PART).max(EVENT_GROWTH_MIN);
    loop {
        // From the beginning of the round, so that no time and no event gets lost in it.
        let next = clock.elapsed() + PERIOD;
        let grown = events_written.borrow_and_update().saturating_add(growth);
        let tasks = store.prune(keep.tasks).await.map(|pruned| pruned.more);
        let events = store.trim_events(keep.events).await;
        let audit = store.trim_audit(keep.audit).await;
        let more = is_more(tasks) | is_more(events) | is_more(audit);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = clock.sleep(next.saturating_sub(clock.elapsed())), if !more => {}
            _ = events_written.wait_for(|bytes| *bytes >= grown), if !more => {}
            () = tokio::time::sleep(PAUSE), if more => {}
        }
    }
}

/// Whether a step has left something; one that failed is tried again in the next round.
fn is_more(step: store::Result<bool>) -> bool {
    match step {
        Ok(more) => more,
        Err(store::Error::Unavailable(_) | store::Error::Closed) => false,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "pruning failed");
            false
        }
    }
}
