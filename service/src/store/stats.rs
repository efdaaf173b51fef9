//! Counts all tasks, for an overview.

use std::time::Duration;

use diesel::{dsl::count_star, prelude::*};

use super::{
    ended,
    error::Result,
    link::{Link, on_engine},
    queues,
    schema::{stage, tasks},
};
use crate::domain::{Timestamp, queue::QueueState, retention::EndedCounts};

/// How many tasks there are, and how many have ended lately.
#[derive(Clone, Debug)]
pub struct Stats {
    pub queues: Vec<QueueState>,
    /// Due tasks that no executor serves.
    pub unrouted: u64,
    /// All tasks that have ended and are still kept.
    pub ended: EndedCounts,
    pub ended_last_minute: EndedCounts,
    pub ended_last_hour: EndedCounts,
}

pub(super) fn stats(link: &mut Link<'_>, now: Timestamp) -> Result<Stats> {
    let mut since = |ago: Duration| {
        ended::between(link, now.saturating_sub(ago).unwrap_or(Timestamp::MIN), now)
    };
    let ended_last_minute = since(Duration::from_mins(1))?;
    let ended_last_hour = since(Duration::from_hours(1))?;
    let ended = ended::between(link, Timestamp::MIN, now)?;
    let unrouted = tasks::table
        .filter(stage::is_available())
        .filter(tasks::executor_id.is_null())
        .select(count_star());
    let unrouted: i64 = on_engine!(&mut *link, c => unrouted.first(c))?;
    Ok(Stats {
        queues: queues::states(link, None)?,
        unrouted: u64::try_from(unrouted).unwrap_or(0),
        ended,
        ended_last_minute,
        ended_last_hour,
    })
}
