//! Counts running tasks, so that limits hold over all processes together.

use std::collections::HashMap;

use diesel::{dsl::count_star, prelude::*};

use super::{
    dialect,
    error::Result,
    floors::{Floors, Running},
    link::Link,
    rows::TaskRow,
    schema::{stage, tasks},
    tx::Tx,
};
use crate::domain::{
    Timestamp,
    executor::{Executor, ExecutorId},
};

/// How many tasks run of those executors and queues that have a limit.
pub(super) struct Room {
    executors: HashMap<ExecutorId, u32>,
    queues: HashMap<String, u32>,
}

impl Room {
    pub(super) fn count(tx: &mut Tx<'_>) -> Result<Self> {
        let mut room = Self { executors: HashMap::new(), queues: HashMap::new() };
        let limited: Vec<i64> = tx
            .registry
            .all()
            .filter(|executor| executor.registration.concurrency.is_some())
            .map(|executor| executor.id.0)
            .collect();
        let queues: Vec<String> =
            tx.registry.limited_queues().map(|(name, _)| name.clone()).collect();
        if limited.is_empty() && queues.is_empty() {
            return Ok(room);
        }
        let running = match &mut tx.link {
            Link::Sqlite(c) => count_all(c, limited, queues)?,
            Link::Postgres(c) => count_known(c, tx.floors, (limited, queues))?,
        };
        for (executor, queue, running) in running {
            room.add(ExecutorId(executor), &queue, u32::try_from(running).unwrap_or(u32::MAX));
        }
        Ok(room)
    }

    fn add(&mut self, executor: ExecutorId, queue: &str, running: u32) {
        let of_executor = self.executors.entry(executor).or_default();
        *of_executor = of_executor.saturating_add(running);
        if let Some(of_queue) = self.queues.get_mut(queue) {
            *of_queue = of_queue.saturating_add(running);
        } else {
            self.queues.insert(queue.to_owned(), running);
        }
    }

    /// How many more tasks an executor may run now.
    pub(super) fn of_executor(&self, executor: &Executor, now: Timestamp) -> u32 {
        let running = self.executors.get(&executor.id).copied().unwrap_or(0);
        executor.circuit.room(now, executor.registration.concurrency, running)
    }

    /// A task of this row is going to run.
    pub(super) fn take(&mut self, executor: &Executor, row: &TaskRow) {
        self.add(executor.id, &row.queue_name, 1);
    }

    pub(super) fn of_queue(&self, name: &str, limit: Option<u32>) -> u32 {
        let running = self.queues.get(name).copied().unwrap_or(0);
        limit.map_or(u32::MAX, |limit| limit.saturating_sub(running))
    }
}

/// How many tasks run: executor, queue, number.
type Counts = Vec<(i64, String, i64)>;

/// Counts by the index of running tasks.
fn count_all(c: &mut SqliteConnection, limited: Vec<i64>, queues: Vec<String>) -> Result<Counts> {
    let running = tasks::table
        .filter(stage::is_running())
        .filter(tasks::executor_id.eq_any(limited).or(tasks::queue_name.eq_any(queues)))
        .filter(tasks::executor_id.is_not_null())
        .group_by((tasks::executor_id, tasks::queue_name))
        .select((tasks::executor_id.assume_not_null(), tasks::queue_name, count_star()));
    Ok(running.load(c)?)
}

/// Looks at the tasks that ran at the last count, and at those that were started since. The index
/// of running tasks may also hold dead entries of all tasks that have ended.
fn count_known(
    c: &mut PgConnection,
    floors: &mut Floors,
    limited: (Vec<i64>, Vec<String>),
) -> Result<Counts> {
    let before = floors.running.take().filter(|before| before.limited == limited);
    let before = before.unwrap_or(Running { limited, seqs: Vec::new(), since: i64::MIN });
    let rows = dialect::running(c, &before)?;
    let seqs = rows.iter().map(|row| row.seq).collect();
    floors.running = Some(Running { seqs, since: floors.horizon(), ..before });
    Ok(rows.into_iter().map(|row| (row.executor_id, row.queue_name, 1)).collect())
}
