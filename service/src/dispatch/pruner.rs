use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    domain::retention::Retention,
    store::{self, Store},
};

/// How often to look for tasks that ended long ago.
const PERIOD: Duration = Duration::from_secs(30);
/// The pause between two steps of one round, in which others get on.
const PAUSE: Duration = Duration::from_millis(20);

/// Deletes what ended long ago, round by round.
pub async fn prune(
    store: Store,
    clock: Arc<dyn Clock>,
    retention: Retention,
    shutdown: CancellationToken,
) {
    loop {
        let more = match store.prune(retention).await {
            Ok(pruned) => pruned.more,
            Err(store::Error::Unavailable(_) | store::Error::Closed) => false,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "pruning failed");
                false
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = clock.sleep(if more { PAUSE } else { PERIOD }) => {}
        }
    }
}
