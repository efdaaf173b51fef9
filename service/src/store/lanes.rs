//! Chooses which due tasks come next: across the queues that may start something, in the order
//! of priority, due time and enqueuing, and within the limits of executors and queues.
//!
//! The due tasks of an executor lie in one lane for each queue. A lane that is paused, full or
//! not asked for is not looked into, so nothing that lies in it costs anything.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
};

use diesel::{dsl::count_star, prelude::*};

use super::{
    dialect::{self, Head},
    error::Result,
    link::on_engine,
    rows::TaskRow,
    schema::{stage, tasks},
    tx::Tx,
};
use crate::domain::{
    Timestamp,
    executor::{Executor, ExecutorId},
    queue::QueueFilter,
};

/// Queues of one executor that a claim looks into.
const LANES_MAX: i64 = 10_000;
/// With up to so many lanes, each is read as far as one lane alone could be needed.
const FEW_LANES: u32 = 4;
/// What is read of each lane at least where there are many.
const HEADS_MIN: u32 = 8;

/// What runs already, where somebody limits it.
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
        let running = tasks::table
            .filter(stage::is_running())
            .filter(tasks::executor_id.eq_any(limited).or(tasks::queue_name.eq_any(queues)))
            .filter(tasks::executor_id.is_not_null())
            .group_by((tasks::executor_id, tasks::queue_name))
            .select((tasks::executor_id.assume_not_null(), tasks::queue_name, count_star()));
        let rows: Vec<(i64, String, i64)> = on_engine!(&mut tx.link, c => running.load(c))?;
        for (executor, queue, running) in rows {
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

    /// How many tasks more an executor may run.
    pub(super) fn of_executor(&self, executor: &Executor, now: Timestamp) -> u32 {
        let running = self.executors.get(&executor.id).copied().unwrap_or(0);
        executor.circuit.room(now, executor.registration.concurrency, running)
    }

    /// These are going to run.
    pub(super) fn take<'r>(
        &mut self,
        executor: &Executor,
        rows: impl Iterator<Item = &'r TaskRow>,
    ) {
        for row in rows {
            self.add(executor.id, &row.queue_name, 1);
        }
    }

    fn of_queue(&self, name: &str, limit: Option<u32>) -> u32 {
        let running = self.queues.get(name).copied().unwrap_or(0);
        limit.map_or(u32::MAX, |limit| limit.saturating_sub(running))
    }
}

/// Tasks in the order in which they are to start.
pub(super) struct Chosen {
    pub(super) seqs: Vec<i64>,
    /// There are more, which have to be chosen anew.
    pub(super) more: bool,
}

pub(super) fn choose(
    tx: &mut Tx<'_>,
    executor: &Executor,
    queues: &QueueFilter,
    limit: u32,
    room: &Room,
) -> Result<Chosen> {
    let names = match &queues.only {
        Some(only) => only.iter().map(|name| name.as_str().to_owned()).collect(),
        None => dialect::lanes(&mut tx.link, executor.id.0, LANES_MAX)?,
    };
    let mut rooms = HashMap::new();
    for name in queues.pass(names) {
        let settings = tx.registry.queue(&name);
        let left = room.of_queue(&name, settings.concurrency);
        if !settings.paused && left > 0 {
            rooms.insert(name, left);
        }
    }
    let names: Vec<String> = rooms.keys().cloned().collect();
    let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
    let depth = if count <= FEW_LANES {
        limit
    } else {
        (limit.saturating_mul(FEW_LANES) / count).max(HEADS_MIN).min(limit)
    };
    let heads = dialect::heads(&mut tx.link, executor.id.0, &names, i64::from(depth))?;
    Ok(merge(heads, depth, limit, &mut rooms))
}

/// Takes the first of all lanes, again and again. Where a lane was not read to its end, nobody
/// knows what comes after the last task read of it, so that the choice ends there.
fn merge(heads: Vec<Head>, depth: u32, limit: u32, rooms: &mut HashMap<String, u32>) -> Chosen {
    let depth = usize::try_from(depth).unwrap_or(usize::MAX);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut lanes: HashMap<String, (VecDeque<Head>, bool)> = HashMap::new();
    for head in heads {
        lanes.entry(head.queue_name.clone()).or_default().0.push_back(head);
    }
    let place = |head: &Head| Reverse((Reverse(head.priority), head.due_at, head.seq));
    let mut first = BinaryHeap::new();
    for (name, (lane, cut)) in &mut lanes {
        *cut = lane.len() >= depth;
        first.extend(lane.front().map(|head| (place(head), name.clone())));
    }
    let mut seqs = Vec::new();
    while let Some((_, name)) = first.pop() {
        let (Some((lane, cut)), Some(left)) = (lanes.get_mut(&name), rooms.get_mut(&name)) else {
            continue;
        };
        if seqs.len() == limit {
            break;
        }
        if *left == 0 {
            continue;
        }
        *left -= 1;
        seqs.extend(lane.pop_front().map(|head| head.seq));
        match lane.front() {
            Some(head) => first.push((place(head), name)),
            None if *cut => return Chosen { more: seqs.len() < limit, seqs },
            None => {}
        }
    }
    Chosen { seqs, more: false }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{Chosen, Head, merge};

    fn heads(of: &[(&str, i16, i64)]) -> Vec<Head> {
        let head = |(seq, (queue_name, priority, due_at)): (i64, &(&str, i16, i64))| Head {
            queue_name: (*queue_name).to_owned(),
            priority: *priority,
            due_at: *due_at,
            seq,
        };
        (0..).zip(of).map(head).collect()
    }

    fn rooms(of: &[(&str, u32)]) -> HashMap<String, u32> {
        of.iter().map(|(name, room)| ((*name).to_owned(), *room)).collect()
    }

    #[test]
    fn the_order_holds_across_queues() {
        let heads = heads(&[("a", 5, 9), ("a", 0, 1), ("a", 0, 3), ("b", 9, 9), ("b", 0, 2)]);
        let mut rooms = rooms(&[("a", 100), ("b", 100)]);
        let Chosen { seqs, more } = merge(heads, 100, 4, &mut rooms);
        assert_eq!((seqs, more), (vec![3, 0, 1, 4], false));
    }

    #[test]
    fn a_full_queue_is_passed_over() {
        let heads = heads(&[("a", 5, 1), ("a", 5, 2), ("b", 0, 1)]);
        let Chosen { seqs, .. } = merge(heads, 100, 3, &mut rooms(&[("a", 1), ("b", 100)]));
        assert_eq!(seqs, [0, 2]);
    }

    #[test]
    fn what_comes_after_a_lane_that_was_cut_is_not_guessed() {
        let heads = heads(&[("a", 5, 1), ("a", 5, 2), ("b", 0, 1), ("b", 0, 2)]);
        let Chosen { seqs, more } = merge(heads, 2, 4, &mut rooms(&[("a", 100), ("b", 100)]));
        assert_eq!((seqs, more), (vec![0, 1], true), "a might have a third of priority 5");
    }
}
