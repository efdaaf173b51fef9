//! Claims: chooses tasks that may start now, begins their attempts, and hands them out with leases.
//!
//! The dispatcher claims tasks for executors that it calls and for plugins; a worker claims tasks
//! of its own executor. Only one process claims at a time, so that running tasks can be counted
//! against the limits of executors and queues. A task that exceeds a limit, or finds no room in
//! memory, stays where it is and loses no attempt.

use std::sync::Arc;

use super::{
    circuit, dialect,
    error::Result,
    lanes,
    load::Load,
    reads::{self, Record},
    room::Room,
    rows::{TaskRow, corrupt, count, micros, time, to_json},
    sizes, transition,
    tx::Tx,
};
use crate::{
    clock::later,
    domain::{
        event::Change,
        executor::{Executor, ExecutorId, Target},
        lease::{Assignment, Claimed, Lease, LeaseToken},
        limits::WORKER_IDS_PER_TASK_MAX,
        places::PluginRoom,
        queue::QueueFilter,
        state::{Event, Stage},
    },
    memory::{COPIES, Held, Share, TASK_BYTES},
};

/// How many rows one claim looks at for one executor. Rows that cannot start are corrected, so that
/// the next claim gets further.
const ROWS_MAX: u32 = 1_000;

/// A request for tasks, up to as many as the caller can start.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    pub by: Claimer,
    pub limit: u32,
}

/// Where the tasks are going to run.
#[derive(Clone, Debug)]
pub enum Claimer {
    /// In this process, which calls executors and has this much room for plugins.
    Dispatcher { plugins: PluginRoom },
    /// At a worker of this executor.
    Worker { executor: ExecutorId, worker_id: String, queues: QueueFilter },
}

/// The result of a claim.
#[derive(Debug, Default)]
pub struct Claims {
    /// The attempts that have begun, each with the room that it takes in memory.
    pub begun: Vec<Held<Claimed>>,
    /// There were more tasks, but no room in memory for them.
    pub no_room: bool,
}

/// Claims the first due tasks for each request. The claim lock makes sure that only one process
/// claims at a time, so that running tasks can be counted against the limits of executors and
/// queues.
pub(super) fn claim(tx: &mut Tx<'_>, requests: &[&ClaimRequest]) -> Result<Vec<Claims>> {
    let mut answers: Vec<Claims> = requests.iter().map(|_| Claims::default()).collect();
    if requests.iter().all(|request| request.limit == 0) {
        return Ok(answers);
    }
    // After the rows that the batch names and before the circuits, as everywhere. Rows that this
    // claim locks later cannot make it wait: those that another transaction holds are skipped.
    dialect::lock_claims(&mut tx.link)?;
    let apart = tx.registry.queues_with_settings();
    tx.floors.prepare(&mut tx.link, tx.now, apart)?;
    let mut room = Room::count(tx)?;
    let mut groups: Vec<Group<'_>> = Vec::new();
    for ((index, request), answer) in requests.iter().enumerate().zip(&mut answers) {
        match &request.by {
            Claimer::Dispatcher { plugins } => {
                *answer = claim_to_call(tx, request.limit, plugins, &mut room)?;
            }
            Claimer::Worker { executor, worker_id, queues } => {
                let load = Load::new(&tx.memory.requests, COPIES);
                let hand = Hand { index, left: request.limit, worker_id, load };
                let alike =
                    |group: &&mut Group<'_>| group.executor == *executor && group.queues == queues;
                match groups.iter_mut().find(alike) {
                    Some(group) => group.hands.push(hand),
                    None => groups.push(Group { executor: *executor, queues, hands: vec![hand] }),
                }
            }
        }
    }
    for mut group in groups {
        for (index, begun) in claim_for_workers(tx, &mut group, &mut room)? {
            if let Some(answer) = answers.get_mut(index) {
                answer.begun.push(begun);
            }
        }
        for hand in group.hands {
            if let Some(answer) = answers.get_mut(hand.index) {
                answer.no_room = hand.load.no_room;
            }
        }
    }
    Ok(answers)
}

/// Workers of one executor that ask for tasks of the same queues in one batch.
struct Group<'a> {
    executor: ExecutorId,
    queues: &'a QueueFilter,
    hands: Vec<Hand<'a>>,
}

/// One request of a group: its index, and how many tasks more it takes.
struct Hand<'a> {
    index: usize,
    left: u32,
    worker_id: &'a str,
    load: Load<'a>,
}

/// Claims for the dispatcher: for an executor that is called, as many tasks as it has room for; for
/// a plugin, as many as it has places for. A task that waited for a place would lose time of its
/// attempt.
fn claim_to_call(
    tx: &mut Tx<'_>,
    permits: u32,
    plugins: &PluginRoom,
    room: &mut Room,
) -> Result<Claims> {
    let mut begun = Vec::new();
    let mut places = plugins.places.clone();
    // A call has its task in memory only once: the task is dropped when the message is made.
    let mut load = Load::new(&tx.memory.calls, 1);
    let called = |executor: &&Arc<Executor>| !executor.registration.target.is_worker();
    let mut executors: Vec<Arc<Executor>> = tx.registry.all().filter(called).cloned().collect();
    // The first executor is chosen at random, so that none is always the last one when there are
    // fewer permits than tasks.
    let first = tx.entropy.below(executors.len());
    executors.rotate_left(first);
    for executor in executors {
        let left = permits.saturating_sub(u32::try_from(begun.len()).unwrap_or(u32::MAX));
        let plugin_mib = match executor.registration.target {
            Target::Wasm { memory_mib, .. } => Some(memory_mib),
            Target::Http { .. } | Target::Worker => None,
        };
        let free = plugin_mib.map_or(u32::MAX, |mib| places.room(executor.id, mib));
        let rows = claim_rows(tx, &executor, &QueueFilter::default(), left.min(free), room)?;
        let found = rows.len();
        if free < left && u32::try_from(found) == Ok(free) {
            plugins.was_short();
        }
        let sizes = sizes_of(tx, &rows)?;
        let worker_id = executor.registration.name.as_str();
        let fitting: Vec<Start<'_>> = rows
            .into_iter()
            .zip(sizes)
            .map_while(|(row, bytes)| Some(Start { row, worker_id, share: load.add(bytes)? }))
            .collect();
        // Wakes the dispatcher for the tasks that are left. Without room they could not start, and
        // the code that gives room back wakes it then.
        if fitting.len() < found && !load.no_room {
            tx.work_for(Some(executor.id));
        }
        let started = start(tx, &executor, fitting, room)?;
        let before = begun.len();
        begun.extend(started.into_iter().flatten());
        let started = u32::try_from(begun.len() - before).unwrap_or(u32::MAX);
        if let Some(mib) = plugin_mib {
            places.take(executor.id, mib, started);
        }
        if executor.circuit.is_probing() && started > 0 {
            circuit::probe(tx, &executor);
        }
        if load.no_room {
            break;
        }
    }
    Ok(Claims { begun, no_room: load.no_room })
}

/// The bytes of each row's record, in the order of the rows.
fn sizes_of(tx: &mut Tx<'_>, rows: &[TaskRow]) -> Result<Vec<usize>> {
    let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
    let sizes = sizes::records(&mut tx.link, &seqs)?;
    Ok(seqs.iter().map(|seq| sizes.get(seq).copied().unwrap_or(TASK_BYTES)).collect())
}

/// Claims for workers. Tasks are dealt out one by one, so that no worker takes all of them. Each
/// attempt is returned with the index of its request.
fn claim_for_workers(
    tx: &mut Tx<'_>,
    group: &mut Group<'_>,
    room: &mut Room,
) -> Result<Vec<(usize, Held<Claimed>)>> {
    let Some(executor) = tx.registry.get(group.executor).map(Arc::clone) else {
        return Ok(Vec::new());
    };
    let wanted = group.hands.iter().fold(0_u32, |sum, hand| sum.saturating_add(hand.left));
    let rows = claim_rows(tx, &executor, group.queues, wanted, room)?;
    let first = tx.entropy.below(group.hands.len());
    group.hands.rotate_left(first);
    let sizes = sizes_of(tx, &rows)?;
    let found = rows.len();
    let (indexes, dealt) = deal(&mut group.hands, rows.into_iter().zip(sizes));
    if dealt.len() < found {
        tx.work_for(Some(executor.id));
    }
    let started = indexes.into_iter().zip(start(tx, &executor, dealt, room)?);
    Ok(started.filter_map(|(index, begun)| Some((index, begun?))).collect())
}

/// Deals rows out to requests, one row at a time and as much as each can carry. The order of the
/// rows is kept.
fn deal<'a>(
    hands: &mut [Hand<'a>],
    rows: impl Iterator<Item = (TaskRow, usize)>,
) -> (Vec<usize>, Vec<Start<'a>>) {
    let mut dealt = (Vec::new(), Vec::new());
    let mut rows = rows.peekable();
    while hands.iter().any(|hand| hand.left > 0) {
        for hand in hands.iter_mut().filter(|hand| hand.left > 0) {
            let Some((_, bytes)) = rows.peek() else { return dealt };
            let Some(share) = hand.load.add(*bytes) else {
                hand.left = 0;
                continue;
            };
            hand.left -= 1;
            dealt.0.push(hand.index);
            dealt.1.extend(rows.next().map(|(row, _)| Start {
                row,
                worker_id: hand.worker_id,
                share,
            }));
        }
    }
    dealt
}

/// Locks the first tasks of an executor that may start, as many as all limits allow. Rows that
/// cannot start are corrected on the way.
fn claim_rows(
    tx: &mut Tx<'_>,
    executor: &Executor,
    queues: &QueueFilter,
    limit: u32,
    room: &mut Room,
) -> Result<Vec<TaskRow>> {
    let limit = room.of_executor(executor, tx.now).min(limit).min(ROWS_MAX);
    if limit == 0 || executor.registration.paused {
        return Ok(Vec::new());
    }
    let chosen = lanes::choose(tx, executor, queues, limit, room)?;
    let locked = dialect::lock_free_tasks(&mut tx.link, &chosen.seqs)?;
    tx.changes.hold(locked);
    let mut startable = Vec::with_capacity(chosen.seqs.len());
    let mut mended = false;
    for row in chosen.seqs.iter().filter_map(|seq| tx.changes.row(*seq)).collect::<Vec<_>>() {
        let is_waiting = row.now.stage == Stage::Available as i16;
        let flaw = tx.changes.flaw(row.seq).filter(|_| is_waiting).map(str::to_owned);
        if let Some(flaw) = flaw {
            transition::end_unreadable(tx, row, &flaw)?;
            mended = true;
        } else if is_startable(tx, executor, &row)? {
            startable.push(row);
        } else {
            mended |= mend(tx, row)?;
        }
    }
    let found = u32::try_from(startable.len()).unwrap_or(u32::MAX);
    // Corrected rows are out of the way now, and there may be tasks behind them: claim again.
    if found < limit && (mended || chosen.more) {
        tx.work_for(Some(executor.id));
    }
    Ok(startable)
}

fn is_startable(tx: &Tx<'_>, executor: &Executor, row: &TaskRow) -> Result<bool> {
    Ok(row.stage()? == Stage::Available
        && row.expires_at.is_none_or(|at| micros(tx.now) < at)
        && tx.registry.route(&row.task_path) == Some(executor.id))
}

/// Corrects a waiting task that has expired or belongs to another executor by now, and returns
/// whether it did.
fn mend(tx: &mut Tx<'_>, mut row: TaskRow) -> Result<bool> {
    if row.stage()? != Stage::Available {
        return Ok(false);
    }
    if row.expires_at.is_some_and(|at| at <= micros(tx.now)) {
        transition::expired(tx, &mut row)?;
    } else {
        let route = tx.registry.route(&row.task_path);
        row.now.executor_id = route.map(|id| id.0);
        tx.work_for(route);
    }
    tx.changes.save(row)?;
    Ok(true)
}

/// A row whose attempt is to begin, the worker that gets it, and the room that it takes in memory.
struct Start<'a> {
    row: TaskRow,
    worker_id: &'a str,
    share: Share,
}

/// Begins attempts. A task whose args cannot be read has failed instead, and is `None` in the
/// result.
fn start(
    tx: &mut Tx<'_>,
    executor: &Arc<Executor>,
    starts: Vec<Start<'_>>,
    room: &mut Room,
) -> Result<Vec<Option<Held<Claimed>>>> {
    let seqs: Vec<i64> = starts.iter().map(|start| start.row.seq).collect();
    let mut parts = reads::parts(&mut tx.link, &seqs)?;
    let mut begun = Vec::with_capacity(starts.len());
    for Start { mut row, worker_id, share } in starts {
        let mut parts = parts.remove(&row.seq).unwrap_or_default();
        if let Some(flaw) = parts.flaw.take() {
            transition::end_unreadable(tx, row, &flaw)?;
            tx.work_for(Some(executor.id));
            begun.push(None);
            continue;
        }
        room.take(executor, &row);
        transition::consider(tx, &row, Event::Claimed)?.map_err(transition::impossible)?;
        let token = LeaseToken { seq: row.seq, secret: tx.entropy.bytes() };
        let max_attempts = begin(tx, executor, &mut row, token, worker_id)?;
        let deadline = row.now.deadline_at.ok_or_else(|| corrupt("no deadline"))?;
        tx.changes.save(row.clone())?;
        let Record { task, traceparent } = reads::assemble(row, parts, Some(executor), None)?;
        let lease = task.lease.ok_or_else(|| corrupt("an attempt without a lease"))?;
        let value = Claimed {
            lease: Lease::claimed(token),
            assignment: Box::new(Assignment {
                max_attempts,
                deadline: time(deadline)?,
                expires_at: lease.expires_at,
                traceparent,
                token,
                task,
            }),
            executor: Arc::clone(executor),
        };
        begun.push(Some(Held { value, share }));
    }
    // The other requests of this batch must not find these tasks again.
    tx.flush()?;
    Ok(begun)
}

/// Turns a waiting row into a running one, and returns how many attempts the task may have in all.
fn begin(
    tx: &mut Tx<'_>,
    executor: &Executor,
    row: &mut TaskRow,
    token: LeaseToken,
    worker_id: &str,
) -> Result<u32> {
    let terms = transition::terms(tx, row)?;
    let deadline = later(tx.now, terms.timeout);
    let expires_at = later(tx.now, executor.registration.lease).min(deadline);
    let mut worker_ids = row.worker_ids()?;
    worker_ids.push(worker_id.to_owned());
    // The record keeps the errors of as many attempts.
    worker_ids.drain(..worker_ids.len().saturating_sub(WORKER_IDS_PER_TASK_MAX));
    let now = micros(tx.now);
    tx.count_start(row, executor);
    row.now.stage = Stage::Running as i16;
    row.now.attempts += 1;
    row.now.deliveries += 1;
    row.now.worker_ids = to_json(&worker_ids, "worker_ids")?;
    row.now.lease_secret = Some(token.secret.to_vec());
    row.now.lease_renewed_at = Some(now);
    row.now.lease_expires_at = Some(micros(expires_at));
    row.now.deadline_at = Some(micros(deadline));
    // A worker reports by itself; a called executor has not answered yet.
    row.now.detached = executor.registration.target.is_worker();
    row.now.started_at.get_or_insert(now);
    row.now.last_attempted_at = Some(now);
    row.now.progress_fraction = None;
    row.now.progress_message = None;
    tx.effects.sweep_by(expires_at);
    tx.tell(row, &Change::Started { worker_id: Some(worker_id.to_owned()) })?;
    Ok(terms.max_attempts.saturating_add(count(row.now.attempts_before)))
}
