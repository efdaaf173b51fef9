//! Counts of tasks.

use nightshift_openapi as wire;

use super::wire_queue;
use crate::{
    domain::{Timestamp, queue::QueueState, retention::EndedCounts},
    store::Stats,
};

pub(in crate::api) fn wire_stats(stats: Stats, now: Timestamp) -> wire::Stats {
    let Stats { queues, unrouted, ended, ended_last_minute, ended_last_hour } = stats;
    let sum = |of: fn(&QueueState) -> u64| queues.iter().map(of).sum();
    wire::Stats {
        due: sum(|queue| queue.available),
        scheduled: sum(|queue| queue.scheduled),
        running: sum(|queue| queue.running),
        ended: wire_ended(ended),
        unrouted,
        ended_last_minute: wire_ended(ended_last_minute),
        ended_last_hour: wire_ended(ended_last_hour),
        queues: queues.into_iter().map(|queue| wire_queue(queue, now)).collect(),
    }
}

pub(in crate::api) fn wire_pruned(counts: EndedCounts, remaining: bool) -> wire::Pruned {
    wire::Pruned { tasks: wire_ended(counts), remaining }
}

fn wire_ended(counts: EndedCounts) -> wire::EndedCounts {
    let EndedCounts { successful, failed, cancelled } = counts;
    wire::EndedCounts { successful, failed, cancelled }
}
