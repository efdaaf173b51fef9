//! One transaction of the writer, as its commands see it.
//!
//! The writer makes a [`Tx`] for each batch. Commands change rows in memory (`changes`) and gather
//! what the end of the transaction writes (events, audit entries, rewinds) and what the process is
//! told after the commit (`effects`). All commands of a batch happen at one moment, `now`. If the
//! transaction is rolled back, the writer drops the effects and makes `registry` and `floors`
//! forget what they have learned in it.

use std::time::Duration;

use super::{
    audit::Note,
    changes::Changes,
    dialect,
    error::Result,
    events::News,
    floors::Floors,
    link::Link,
    registry::Registry,
    rows::{TaskRow, micros},
    signals::Effects,
};
use crate::{
    domain::{
        Timestamp,
        executor::{Executor, ExecutorId},
    },
    entropy::Entropy,
    memory::Memory,
    metrics::{AttemptEnd, Observation, Place},
};

/// The transaction and everything else that the commands of one batch share.
pub(super) struct Tx<'a> {
    pub(super) link: Link<'a>,
    /// The time of the whole batch, read when its transaction begins.
    pub(super) now: Timestamp,
    pub(super) entropy: &'a Entropy,
    pub(super) registry: &'a mut Registry,
    pub(super) floors: &'a mut Floors,
    pub(super) changes: Changes,
    /// The events of this transaction; stored by its last statement.
    pub(super) news: News,
    /// The entries of this transaction for the audit log.
    pub(super) notes: Vec<Note>,
    /// Signals for the rest of the process, and for other processes, to be sent after the commit.
    pub(super) effects: &'a mut Effects,
    pub(super) deliveries_max: u32,
    /// A claim takes room in memory from here for the tasks that it hands out.
    pub(super) memory: &'a Memory,
}

impl Tx<'_> {
    /// Writes the rows that commands have changed since the last flush, so that the next statement
    /// reads them. Floors are lowered as well: a later claim must not begin to look above these
    /// rows.
    pub(super) fn flush(&mut self) -> Result<()> {
        for row in self.changes.changed() {
            self.floors.note(row, self.now);
        }
        self.changes.flush(&mut self.link)
    }

    /// Writes to the table `rewinds` where this transaction has put tasks that were due before it
    /// began. Such a task may lie below the floors of other processes, which read the table.
    pub(super) fn store_rewinds(&mut self) -> Result<()> {
        let early = self.floors.take_early();
        dialect::insert_rewinds(&mut self.link, micros(self.now), &early)
    }

    /// Notes that this executor has one task more to claim, so that after the commit one of its
    /// workers or the dispatcher is woken. Does nothing for `None` or an executor that is not
    /// registered.
    pub(super) fn work_for(&mut self, executor: Option<ExecutorId>) {
        let Some(executor) = executor.and_then(|id| self.registry.get(id)) else {
            return;
        };
        let work = &mut self.effects.work;
        if executor.registration.target.is_worker() {
            let tasks = work.workers.entry(executor.id).or_default();
            *tasks = tasks.saturating_add(1);
        } else {
            work.dispatcher = true;
        }
    }

    /// Counts in the metrics that an attempt of the row begins, with the time that the task has
    /// waited.
    pub(super) fn count_start(&mut self, row: &TaskRow, executor: &Executor) {
        let since = row.now.due_at.max(row.enqueued_at);
        let wait = elapsed(since, self.now);
        let place = place(row, executor);
        self.effects.observations.push(Observation::Started { place, wait });
    }

    /// Counts in the metrics that the present attempt of the row ends, with its duration.
    pub(super) fn count_end(&mut self, row: &TaskRow, outcome: &'static str) {
        // An executor that was deregistered meanwhile has no name to count under.
        let Some(executor) = row.executor_id().and_then(|id| self.registry.get(id)) else {
            return;
        };
        let took = elapsed(row.now.last_attempted_at.unwrap_or(i64::MAX), self.now);
        let end = AttemptEnd { place: place(row, executor), outcome, took };
        self.effects.observations.push(Observation::Ended(end));
    }

    /// Wakes those that claim after a task has stopped running. This is needed only where its queue
    /// or its executor has a limit: another task may have waited for this place.
    pub(super) fn room_after(&mut self, row: &TaskRow) {
        if self.registry.queue(&row.queue_name).concurrency.is_some() {
            // Tasks of one queue may belong to any executor.
            self.effects.work.everybody = true;
            return;
        }
        let limited = |executor: &Executor| executor.registration.concurrency.is_some();
        let executor = row.executor_id();
        if executor.and_then(|id| self.registry.get(id)).is_some_and(|e| limited(e)) {
            self.work_for(executor);
        }
    }
}

fn place(row: &TaskRow, executor: &Executor) -> Place {
    Place {
        queue: row.queue_name.clone(),
        executor: executor.registration.name.to_string(),
        executor_kind: executor.registration.target.kind_name(),
    }
}

/// The time since a stored time; zero if that time is in the future.
fn elapsed(since: i64, now: Timestamp) -> Duration {
    Duration::from_micros(u64::try_from(micros(now).saturating_sub(since)).unwrap_or(0))
}
