//! Deletes finished tasks, events and entries of the audit log that are older than their retention
//! allows. It works in short transactions, so that requests come in between.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    domain::{event::EventRetention, retention::Retention},
    store::{self, Store},
};

/// How often the pruner looks for records that are too old.
const PERIOD: Duration = Duration::from_secs(30);
/// The pause between two steps of one round, in which other commands get their turn.
const PAUSE: Duration = Duration::from_millis(20);

/// Events are also pruned whenever this process has written 1/8 of the bytes that may be kept of
/// them, so that their table does not exceed its limit by much before the next round.
const EVENT_GROWTH_PART: u64 = 8;
/// The least growth that causes such an extra round.
const EVENT_GROWTH_MIN: u64 = 64 * 1024;

/// How much of each kind of record is kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    pub tasks: Retention,
    pub events: EventRetention,
    /// Entries of the audit log.
    pub audit: Duration,
}

/// Deletes finished tasks, old events and old entries of the audit log: every 30 seconds, and
/// sooner if many events are written.
pub async fn prune(store: Store, clock: Arc<dyn Clock>, keep: Keep, shutdown: CancellationToken) {
    let mut events_written = store.event_bytes();
    let growth = (keep.events.bytes / EVENT_GROWTH_PART).max(EVENT_GROWTH_MIN);
    loop {
        // Both marks are taken at the beginning of the round, so that neither the time that it
        // takes nor events that are written during it are left out of the count.
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

/// Whether a step has left records to delete. A step that failed is tried again in the next round.
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
