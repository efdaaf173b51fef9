use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use actix_web::{HttpResponse, get};
use nightshift_openapi::ErrorCode;
use tokio::sync::Mutex;

use super::{
    EVENT_STREAMS_MAX, Error, Shared, State,
    responses::{Failing, Problems},
};
use crate::{
    disk,
    domain::{Timestamp, executor::Executor, queue::QueueState},
    memory::Lane,
    metrics::{CONTENT_TYPE, ExecutorSnapshot, Present, QueueSnapshot, Snapshot},
    store::{self, Store, Upkeep},
};

/// How long what the database said is shown again.
const KEPT_AT_LEAST: Duration = Duration::from_secs(5);
/// And for so many times as long as it took to ask: with millions of live tasks, counting them takes
/// a twentieth of one reader's time at most.
const KEPT_TIMES: u32 = 20;

const EXAMPLE: &str = "# HELP nightshift_queue_tasks Tasks that could run (ready), ...\n\
    # TYPE nightshift_queue_tasks gauge\n\
    nightshift_queue_tasks{queue=\"default\",state=\"ready\"} 3\n";

/// Lets one scrape at a time ask the database, and remembers until when its answer will do, by the
/// clock that nobody sets.
#[derive(Debug)]
pub struct Scrape {
    good_until: Mutex<Option<Duration>>,
    /// Files and folders of the service on this machine's disks.
    disks: Vec<(&'static str, PathBuf)>,
}

impl Scrape {
    pub fn new(disks: Vec<(&'static str, PathBuf)>) -> Self {
        Self { good_until: Mutex::default(), disks }
    }

    /// The bytes that are free on each; one that cannot be asked is left out.
    async fn free(&self) -> Vec<(&'static str, u64)> {
        let disks = self.disks.clone();
        let free = move || {
            let free = disks.iter().map(|(disk, path)| Some((*disk, disk::free(path).ok()?.0)));
            free.flatten().collect()
        };
        tokio::task::spawn_blocking(free).await.unwrap_or_default()
    }
}

/// Read metrics
///
/// In Prometheus' text format. Counts of queues are up to some seconds old; while the database is
/// away they are missing.
#[utoipa::path(
    tag = "service",
    operation_id = "get_metrics",
    security((), ("bearer" = ["read"])),
    responses(
        (status = 200, description = "Counters, gauges and histograms of this process, and the \
            state of queues and executors", body = String, content_type = "text/plain",
            example = json!(EXAMPLE)),
        Problems<Failing>,
    )
)]
#[get("/metrics")]
pub(super) async fn get_metrics(state: Shared) -> Result<HttpResponse, Error> {
    let mut good_until = state.scrape.good_until.lock().await;
    if good_until.is_none_or(|until| until <= state.clock.elapsed()) {
        *good_until = ask(&state).await;
    }
    let hanging = state.plugins.hanging();
    let lane = |kind, lane: &Lane| (kind, lane.bytes_taken(), lane.bytes_max());
    let memory = &state.memory;
    let present = Present {
        commands_waiting: state.store.commands_waiting(),
        event_readers: EVENT_STREAMS_MAX - state.event_streams.available_permits(),
        plugin_calls_hanging: [("file", hanging.file_calls), ("name", hanging.name_lookups)],
        payload_memory: [
            lane("request", &memory.requests),
            lane("call", &memory.calls),
            lane("return", &memory.returns),
        ],
        database_usable: state.store.is_usable(),
        disks: state.scrape.free().await,
    };
    let text = state
        .metrics
        .text(present)
        .map_err(|_fault| Error::new(ErrorCode::Internal, "the metrics cannot be written"))?;
    Ok(HttpResponse::Ok().content_type(CONTENT_TYPE).body(text))
}

/// Shows what the database says now, and returns how long that will do; nothing is shown if it
/// cannot say it.
async fn ask(state: &State) -> Option<Duration> {
    let begun = Instant::now();
    match snapshot(&state.store, state.clock.now()).await {
        Ok(snapshot) => {
            state.metrics.show(&snapshot);
            let kept = KEPT_AT_LEAST.max(begun.elapsed() * KEPT_TIMES);
            Some(state.clock.elapsed() + kept)
        }
        // Said once already, by whoever lost the database.
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "queues cannot be counted");
            state.metrics.hide();
            None
        }
    }
}

async fn snapshot(store: &Store, now: Timestamp) -> store::Result<Snapshot> {
    let queues = store.queues().await?.into_iter().map(|queue| shown(queue, now)).collect();
    let (executors, asked_at) = (store.executors().await?, store.asked_at().await?);
    // Also while a probe is out: nobody knows yet that all is well.
    let shown_executor = |executor: Executor| ExecutorSnapshot {
        name: executor.registration.name.to_string(),
        held: executor.circuit.held_until.is_some(),
        asked_at: asked_at.get(&executor.id).copied(),
    };
    let executors = executors.into_iter().map(shown_executor).collect();
    let Upkeep { bytes, dead_rows, oldest_transaction } = store.upkeep().await?;
    Ok(Snapshot { queues, executors, database_bytes: bytes, dead_rows, oldest_transaction })
}

fn shown(queue: QueueState, now: Timestamp) -> QueueSnapshot {
    let age = |since: Timestamp| Duration::try_from(now.duration_since(since)).unwrap_or_default();
    QueueSnapshot {
        name: queue.name,
        ready: queue.available,
        scheduled: queue.scheduled,
        running: queue.running,
        paused: queue.settings.paused,
        oldest: queue.oldest_due_at.map(age),
    }
}
