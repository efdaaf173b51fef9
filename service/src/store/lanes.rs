//! Chooses which due tasks come next, in the order of priority, due time and enqueuing. It respects
//! the limits of executors and queues.
//!
//! The tasks of an executor lie in one order over all queues. Queues that a user has paused or
//! limited are left out of it. They are looked at one by one, and only those that may start a task.
//! So the number of queues costs nothing, nor do the tasks in a queue that is paused or full.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
};

use super::{
    cells::{Cells, Parts},
    dialect::{self, Head},
    error::Result,
    floors::Scan,
    room::Room,
    tx::Tx,
};
use crate::domain::{
    executor::Executor,
    names::QueueName,
    queue::{QueueFilter, QueueSettings},
};

/// With at most this many lanes, each is read as far as if all tasks came from it alone.
const FEW_LANES: u32 = 4;
/// How many tasks of each lane are read at least where there are more lanes.
const HEADS_MIN: u32 = 8;

/// Tasks in the order in which they are to start.
pub(super) struct Chosen {
    pub(super) seqs: Vec<i64>,
    /// There are more tasks, which another choice may find.
    pub(super) more: bool,
}

/// Tasks in their order, and how many of them may start.
struct Lane {
    heads: VecDeque<Head>,
    /// There may be more tasks after those that were read.
    cut: bool,
    room: u32,
}

pub(super) fn choose(
    tx: &mut Tx<'_>,
    executor: &Executor,
    queues: &QueueFilter,
    limit: u32,
    room: &Room,
) -> Result<Chosen> {
    let mut lanes = Vec::new();
    let alone = if let Some(only) = &queues.only {
        only.iter().map(|name| name.as_str().to_owned()).collect()
    } else {
        lanes.push(whole(tx, executor, &queues.except, limit)?);
        tx.floors.apart().to_vec()
    };
    let mut rooms = BTreeMap::new();
    for name in queues.pass(alone) {
        let QueueSettings { paused, concurrency } = tx.registry.queue(&name);
        let left = room.of_queue(&name, concurrency);
        if !paused && left > 0 {
            rooms.insert(name, left);
        }
    }
    lanes.extend(one_by_one(tx, executor, rooms, limit)?);
    Ok(merge(lanes, limit))
}

/// The lane of all queues without settings, except these.
fn whole(tx: &mut Tx<'_>, executor: &Executor, except: &[QueueName], limit: u32) -> Result<Lane> {
    let except: Vec<String> = except.iter().map(|name| name.as_str().to_owned()).collect();
    let passed_over = [tx.floors.apart(), &except].concat();
    let scan = Scan::Whole { except };
    let cells = match tx.floors.cells(executor.id, &scan) {
        Some(cells) => cells.clone(),
        None if passed_over.is_empty() => Cells::default(),
        // A priority that has only tasks that are passed over would never get a floor, and each
        // look would read it from its beginning. So all priorities are made known here.
        None => Cells::of(dialect::priorities(&mut tx.link, executor.id.0)?),
    };
    let parts = cells.parts();
    let mut heads =
        dialect::whole_heads(&mut tx.link, executor.id.0, &parts, &passed_over, i64::from(limit))?;
    heads.sort_by_key(place);
    tx.floors.learn(executor.id, scan, cells, &heads);
    Ok(Lane::new(heads, limit, u32::MAX))
}

/// A lane for each of these queues, with the number of tasks that the queue may start.
fn one_by_one(
    tx: &mut Tx<'_>,
    executor: &Executor,
    rooms: BTreeMap<String, u32>,
    limit: u32,
) -> Result<Vec<Lane>> {
    if rooms.is_empty() {
        return Ok(Vec::new());
    }
    let count = u32::try_from(rooms.len()).unwrap_or(u32::MAX);
    let depth = if count <= FEW_LANES {
        limit
    } else {
        (limit.saturating_mul(FEW_LANES) / count).max(HEADS_MIN).min(limit)
    };
    let mut cells: BTreeMap<String, Cells> = BTreeMap::new();
    for name in rooms.keys() {
        let known = tx.floors.cells(executor.id, &Scan::Queue(name.clone()));
        cells.insert(name.clone(), known.cloned().unwrap_or_default());
    }
    let parts: BTreeMap<String, Parts> =
        cells.iter().map(|(name, cells)| (name.clone(), cells.parts())).collect();
    let mut heads = dialect::queue_heads(&mut tx.link, executor.id.0, &parts, i64::from(depth))?;
    heads.sort_by_key(place);
    let mut by_queue: BTreeMap<String, Vec<Head>> = BTreeMap::new();
    for head in heads {
        by_queue.entry(head.queue_name.clone()).or_default().push(head);
    }
    let mut lanes = Vec::with_capacity(rooms.len());
    for ((name, room), (_, cells)) in rooms.into_iter().zip(cells) {
        let heads = by_queue.remove(&name).unwrap_or_default();
        tx.floors.learn(executor.id, Scan::Queue(name), cells, &heads);
        lanes.push(Lane::new(heads, depth, room));
    }
    Ok(lanes)
}

/// Where a task stands in the order.
fn place(head: &Head) -> (Reverse<i16>, i64, i64) {
    (Reverse(head.priority), head.due_at, head.seq)
}

impl Lane {
    /// A lane of which up to `depth` tasks were read.
    fn new(mut heads: Vec<Head>, depth: u32, room: u32) -> Self {
        let depth = usize::try_from(depth).unwrap_or(usize::MAX);
        let cut = heads.len() >= depth;
        heads.truncate(depth);
        Self { heads: heads.into(), cut, room }
    }
}

/// Takes the first task of all lanes, again and again. After the last task that was read of a lane
/// that goes on, its next one is unknown and might come first, so the choice ends there.
fn merge(mut lanes: Vec<Lane>, limit: u32) -> Chosen {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut first: BinaryHeap<_> = (0..)
        .zip(&lanes)
        .filter_map(|(index, lane)| Some(Reverse((place(lane.heads.front()?), index))))
        .collect();
    let mut seqs = Vec::new();
    while seqs.len() < limit {
        let Some(Reverse((_, index))) = first.pop() else { break };
        let Some(lane) = lanes.get_mut::<usize>(index) else { continue };
        seqs.extend(lane.heads.pop_front().map(|head| head.seq));
        lane.room -= 1;
        match lane.heads.front() {
            _ if lane.room == 0 => {}
            Some(head) => first.push(Reverse((place(head), index))),
            None if lane.cut => return Chosen { more: seqs.len() < limit, seqs },
            None => {}
        }
    }
    Chosen { seqs, more: false }
}

#[cfg(test)]
mod tests {
    use super::{Chosen, Head, Lane, merge};

    /// A lane of which up to `depth` tasks were read: priority, due time and `seq` of each.
    fn lane(of: &[(i16, i64, i64)], depth: u32, room: u32) -> Lane {
        let head = |(priority, due_at, seq): &(i16, i64, i64)| Head {
            queue_name: String::new(),
            priority: *priority,
            due_at: *due_at,
            seq: *seq,
        };
        Lane::new(of.iter().map(head).collect(), depth, room)
    }

    #[test]
    fn the_order_holds_across_queues() {
        let a = lane(&[(5, 9, 0), (0, 1, 1), (0, 3, 2)], 100, 100);
        let b = lane(&[(9, 9, 3), (0, 2, 4)], 100, 100);
        let Chosen { seqs, more } = merge(vec![a, b], 4);
        assert_eq!((seqs, more), (vec![3, 0, 1, 4], false));
    }

    #[test]
    fn a_full_queue_is_passed_over() {
        let a = lane(&[(5, 1, 0), (5, 2, 1)], 2, 1);
        let b = lane(&[(0, 1, 2)], 100, 100);
        assert_eq!(merge(vec![a, b], 3).seqs, [0, 2]);
    }

    #[test]
    fn what_comes_after_a_lane_that_was_cut_is_not_guessed() {
        let a = lane(&[(5, 1, 0), (5, 2, 1)], 2, 100);
        let b = lane(&[(0, 1, 2), (0, 2, 3)], 2, 100);
        let Chosen { seqs, more } = merge(vec![a, b], 4);
        assert_eq!((seqs, more), (vec![0, 1], true), "a might have a third of priority 5");
    }
}
