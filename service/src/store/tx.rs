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

/// What the statements of one batch share.
pub(super) struct Tx<'a> {
    pub(super) link: Link<'a>,
    /// The batch happens at this one moment.
    pub(super) now: Timestamp,
    pub(super) entropy: &'a Entropy,
    pub(super) registry: &'a mut Registry,
    pub(super) floors: &'a mut Floors,
    pub(super) changes: Changes,
    /// What those are told who watch.
    pub(super) news: News,
    /// What goes into the audit log.
    pub(super) notes: Vec<Note>,
    /// What is to be told to others once the transaction is committed.
    pub(super) effects: &'a mut Effects,
    pub(super) deliveries_max: u32,
    /// Where those who claim get room for what they take along.
    pub(super) memory: &'a Memory,
}

impl Tx<'_> {
    /// Writes what the commands so far have changed.
    pub(super) fn flush(&mut self) -> Result<()> {
        for row in self.changes.changed() {
            self.floors.note(row, self.now);
        }
        self.changes.flush(&mut self.link)
    }

    /// Tells other processes where tasks wait that were due before this transaction began.
    pub(super) fn store_rewinds(&mut self) -> Result<()> {
        let early = self.floors.take_early();
        dialect::insert_rewinds(&mut self.link, micros(self.now), &early)
    }

    /// There is a task more that this executor may claim, if it is one.
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

    /// An attempt of the row begins, by whoever serves it.
    pub(super) fn count_start(&mut self, row: &TaskRow, executor: &Executor) {
        let since = row.now.due_at.max(row.enqueued_at);
        let wait = elapsed(since, self.now);
        let place = place(row, executor);
        self.effects.observations.push(Observation::Started { place, wait });
    }

    /// The present attempt of the row ends so.
    pub(super) fn count_end(&mut self, row: &TaskRow, outcome: &'static str) {
        // Whoever was deregistered meanwhile has no name any more.
        let Some(executor) = row.executor_id().and_then(|id| self.registry.get(id)) else {
            return;
        };
        let took = elapsed(row.now.last_attempted_at.unwrap_or(i64::MAX), self.now);
        let end = AttemptEnd { place: place(row, executor), outcome, took };
        self.effects.observations.push(Observation::Ended(end));
    }

    /// A task stopped running, so that where one more may run now, it is to start.
    pub(super) fn room_after(&mut self, row: &TaskRow) {
        if self.registry.queue(&row.queue_name).concurrency.is_some() {
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

/// Since a stored time; none if that is still to come.
fn elapsed(since: i64, now: Timestamp) -> Duration {
    Duration::from_micros(u64::try_from(micros(now).saturating_sub(since)).unwrap_or(0))
}
