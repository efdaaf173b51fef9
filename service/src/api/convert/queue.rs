//! Queues and their settings.

use nightshift_openapi as wire;

use crate::{
    api::Error,
    domain::{
        Timestamp,
        names::QueueName,
        queue::{self, QueueSettings, QueueState},
    },
    store,
};

pub(in crate::api) fn queue_change(
    name: QueueName,
    change: &wire::QueueChange,
) -> Result<store::QueueChange, Error> {
    let concurrency = match change.concurrency {
        None => None,
        Some(limit) => Some(limit.map(queue::concurrency).transpose()?),
    };
    Ok(store::QueueChange { name, paused: change.paused, concurrency })
}

pub(in crate::api) fn wire_queue(state: QueueState, now: Timestamp) -> wire::Queue {
    let QueueSettings { paused, concurrency } = state.settings;
    let age = |since: Timestamp| now.duration_since(since).as_secs_f64().max(0.0);
    wire::Queue {
        name: state.name,
        paused,
        concurrency,
        depth: state.available,
        scheduled: state.scheduled,
        in_flight: state.running,
        oldest_due_at: state.oldest_due_at.map(Into::into),
        oldest_age_seconds: state.oldest_due_at.map(age),
    }
}
