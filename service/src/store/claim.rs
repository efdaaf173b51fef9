//! Hands out the tasks that may start now.

use std::sync::Arc;

use super::{
    circuit, dialect,
    error::Result,
    lanes,
    reads::{self, Parts, Record},
    room::Room,
    rows::{TaskRow, corrupt, count, micros, time, to_json},
    transition,
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
};

/// Rows looked at for one executor in one claim; those that turn out not to be startable are
/// mended, so that the next claim gets further.
const ROWS_MAX: u32 = 1_000;

/// A claim for as many tasks as whoever asks may start.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    pub by: Claimer,
    pub limit: u32,
}

/// Who is going to run the tasks.
#[derive(Clone, Debug)]
pub enum Claimer {
    /// This process, by calling executors, and with so much room for plugins.
    Dispatcher { plugins: PluginRoom },
    /// A worker of one executor.
    Worker { executor: ExecutorId, worker_id: String, queues: QueueFilter },
}

/// Claims the first of the due tasks for each who asks. Only one process claims at a time, so
/// what runs can be counted against the limits of executors and queues.
pub(super) fn claim(tx: &mut Tx<'_>, requests: &[&ClaimRequest]) -> Result<Vec<Vec<Claimed>>> {
    let mut answers: Vec<Vec<Claimed>> = requests.iter().map(|_| Vec::new()).collect();
    if requests.iter().all(|request| request.limit == 0) {
        return Ok(answers);
    }
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
                let hand = Hand { index, left: request.limit, worker_id };
                let alike =
                    |group: &&mut Group<'_>| group.executor == *executor && group.queues == queues;
                match groups.iter_mut().find(alike) {
                    Some(group) => group.hands.push(hand),
                    None => groups.push(Group { executor: *executor, queues, hands: vec![hand] }),
                }
            }
        }
    }
    for group in groups {
        for (index, claimed) in claim_for_workers(tx, group, &mut room)? {
            if let Some(answer) = answers.get_mut(index) {
                answer.push(claimed);
            }
        }
    }
    Ok(answers)
}

/// Workers of one executor that ask for tasks of the same queues at the same moment.
struct Group<'a> {
    executor: ExecutorId,
    queues: &'a QueueFilter,
    hands: Vec<Hand<'a>>,
}

/// One of them: which request it is, and how many tasks more it takes.
struct Hand<'a> {
    index: usize,
    left: u32,
    worker_id: &'a str,
}

/// For the dispatcher: what each executor that is called has room for, and what each that is a
/// plugin has a place for: a task that waited for one would do so at the cost of its attempt.
fn claim_to_call(
    tx: &mut Tx<'_>,
    permits: u32,
    plugins: &PluginRoom,
    room: &mut Room,
) -> Result<Vec<Claimed>> {
    let mut claimed = Vec::new();
    let mut places = plugins.places.clone();
    let called = |executor: &&Arc<Executor>| !executor.registration.target.is_worker();
    let mut executors: Vec<Arc<Executor>> = tx.registry.all().filter(called).cloned().collect();
    // Where there are fewer permits than work, no executor is always the last one.
    let first = tx.entropy.below(executors.len());
    executors.rotate_left(first);
    for executor in executors {
        let left = permits.saturating_sub(u32::try_from(claimed.len()).unwrap_or(u32::MAX));
        let rows = match executor.registration.target {
            Target::Wasm { memory_mib, .. } => {
                let free = places.room(executor.id, memory_mib);
                let rows =
                    claim_rows(tx, &executor, &QueueFilter::default(), left.min(free), room)?;
                let taken = u32::try_from(rows.len()).unwrap_or(u32::MAX);
                places.take(executor.id, memory_mib, taken);
                if taken == free && free < left {
                    plugins.was_short();
                }
                rows
            }
            Target::Http { .. } | Target::Worker => {
                claim_rows(tx, &executor, &QueueFilter::default(), left, room)?
            }
        };
        if executor.circuit.is_probing() && !rows.is_empty() {
            circuit::probe(tx, &executor);
        }
        let worker_id = executor.registration.name.as_str();
        let rows = rows.into_iter().map(|row| (row, worker_id)).collect();
        claimed.extend(start(tx, &executor, rows)?);
    }
    Ok(claimed)
}

/// For workers: what there is, dealt out one by one, so that nobody takes all of it. Says which
/// request gets what.
fn claim_for_workers(
    tx: &mut Tx<'_>,
    mut group: Group<'_>,
    room: &mut Room,
) -> Result<Vec<(usize, Claimed)>> {
    let Some(executor) = tx.registry.get(group.executor).map(Arc::clone) else {
        return Ok(Vec::new());
    };
    let wanted = group.hands.iter().fold(0_u32, |sum, hand| sum.saturating_add(hand.left));
    let rows = claim_rows(tx, &executor, group.queues, wanted, room)?;
    let first = tx.entropy.below(group.hands.len());
    group.hands.rotate_left(first);
    let mut indexes = Vec::with_capacity(rows.len());
    let mut dealt = Vec::with_capacity(rows.len());
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        let open = group.hands.iter_mut().filter(|hand| hand.left > 0);
        for (hand, row) in open.zip(&mut rows) {
            hand.left -= 1;
            indexes.push(hand.index);
            dealt.push((row, hand.worker_id));
        }
    }
    Ok(indexes.into_iter().zip(start(tx, &executor, dealt)?).collect())
}

/// A task that may start, with all that its executor is told.
type Startable = (TaskRow, Parts);

/// Locks the first tasks of an executor that may start, as many as all limits allow.
fn claim_rows(
    tx: &mut Tx<'_>,
    executor: &Executor,
    queues: &QueueFilter,
    limit: u32,
    room: &mut Room,
) -> Result<Vec<Startable>> {
    let limit = room.of_executor(executor, tx.now).min(limit).min(ROWS_MAX);
    if limit == 0 || executor.registration.paused {
        return Ok(Vec::new());
    }
    let chosen = lanes::choose(tx, executor, queues, limit, room)?;
    let locked = dialect::lock_free_tasks(&mut tx.link, &chosen.seqs)?;
    tx.changes.hold(locked);
    let mut parts = reads::parts(&mut tx.link, &chosen.seqs)?;
    let mut startable = Vec::with_capacity(chosen.seqs.len());
    let mut mended = false;
    for row in chosen.seqs.iter().filter_map(|seq| tx.changes.row(*seq)).collect::<Vec<_>>() {
        let parts = parts.remove(&row.seq).unwrap_or_default();
        if end_unreadable(tx, &row, &parts)? {
            mended = true;
        } else if is_startable(tx, executor, &row)? {
            startable.push((row, parts));
        } else {
            mended |= mend(tx, row)?;
        }
    }
    let found = u32::try_from(startable.len()).unwrap_or(u32::MAX);
    if found < limit && (mended || chosen.more) {
        tx.work_for(Some(executor.id));
    }
    room.take(executor, startable.iter().map(|(row, _)| row));
    Ok(startable)
}

/// A waiting task that cannot be read has failed, so that it keeps no place in line.
fn end_unreadable(tx: &mut Tx<'_>, row: &TaskRow, parts: &Parts) -> Result<bool> {
    let flaw = tx.changes.flaw(row.seq).or(parts.flaw.as_deref()).map(str::to_owned);
    let Some(flaw) = flaw.filter(|_| row.now.stage == Stage::Available as i16) else {
        return Ok(false);
    };
    let mut row = row.clone();
    transition::unreadable(tx, &mut row, &flaw)?;
    tx.changes.save(row)?;
    Ok(true)
}

fn is_startable(tx: &Tx<'_>, executor: &Executor, row: &TaskRow) -> Result<bool> {
    Ok(row.stage()? == Stage::Available
        && row.expires_at.is_none_or(|at| micros(tx.now) < at)
        && tx.registry.route(&row.task_path) == Some(executor.id))
}

/// Puts a waiting task right that expired or belongs to another executor by now.
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

/// Begins an attempt of each row, by the worker named with it.
fn start(
    tx: &mut Tx<'_>,
    executor: &Arc<Executor>,
    rows: Vec<(Startable, &str)>,
) -> Result<Vec<Claimed>> {
    let mut claimed = Vec::with_capacity(rows.len());
    for ((mut row, parts), worker_id) in rows {
        transition::consider(tx, &row, Event::Claimed)?.map_err(transition::impossible)?;
        let token = LeaseToken { seq: row.seq, secret: tx.entropy.bytes() };
        let max_attempts = begin(tx, executor, &mut row, token, worker_id)?;
        let deadline = row.now.deadline_at.ok_or_else(|| corrupt("no deadline"))?;
        tx.changes.save(row.clone())?;
        let Record { task, traceparent } = reads::assemble(row, parts, Some(executor), None)?;
        let lease = task.lease.ok_or_else(|| corrupt("an attempt without a lease"))?;
        claimed.push(Claimed {
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
        });
    }
    // Whoever claims next in this batch is not to find these again.
    tx.flush()?;
    Ok(claimed)
}

/// Turns a waiting row into a running one and says how many attempts it has in all.
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
    // As many attempts as the record has errors of.
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
    // A worker reports by itself; a call has yet to be answered.
    row.now.detached = executor.registration.target.is_worker();
    row.now.started_at.get_or_insert(now);
    row.now.last_attempted_at = Some(now);
    row.now.progress_fraction = None;
    row.now.progress_message = None;
    tx.effects.sweep_by(expires_at);
    tx.tell(row, &Change::Started { worker_id: Some(worker_id.to_owned()) })?;
    Ok(terms.max_attempts.saturating_add(count(row.now.attempts_before)))
}
