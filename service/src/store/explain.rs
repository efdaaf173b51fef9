//! Finds the reasons why a task is where it is, for users who ask.

use diesel::{dsl::count_star, prelude::*};
use uuid::Uuid;

use super::{
    asks::{self, Asks},
    error::Result,
    link::{Link, on_engine},
    mend::mend,
    reads, registry,
    rows::{TaskRow, corrupt, time},
    schema::{stage, tasks},
    sizes,
};
use crate::{
    clock::later,
    domain::{
        Timestamp,
        executor::Executor,
        limits::{AHEAD_COUNTED_MAX, ASKS_LATELY},
        reason::{Lack, Reason},
        state::Stage,
    },
    memory::TASK_BYTES,
};

/// Facts that only this process knows.
pub(super) struct Here<'a, L> {
    pub(super) now: Timestamp,
    /// Why this process could not begin a call of this executor with this number of bytes, if so.
    pub(super) lack: L,
    pub(super) asks: &'a Asks,
}

/// The task's stage, and the reasons for it. A part of the task that cannot be read comes first.
pub(super) fn explain(
    link: &mut Link<'_>,
    mut row: TaskRow,
    here: Here<'_, impl FnOnce(&Executor, usize) -> Option<Lack>>,
) -> Result<(Stage, Vec<Reason>)> {
    let flaw = mend(&mut row);
    let flaw = match flaw {
        Some(flaw) => Some(flaw),
        None => reads::parts(link, &[row.seq])?.remove(&row.seq).and_then(|parts| parts.flaw),
    };
    let mut reasons: Vec<Reason> =
        flaw.map(|what| Reason::Unreadable { what }).into_iter().collect();
    reasons.extend(self::reasons(link, &row, here)?);
    Ok((row.stage()?, reasons))
}

/// The reasons, the most important first.
fn reasons(
    link: &mut Link<'_>,
    row: &TaskRow,
    here: Here<'_, impl FnOnce(&Executor, usize) -> Option<Lack>>,
) -> Result<Vec<Reason>> {
    let executor = reads::executor(link, row.now.executor_id)?;
    let unreadable = executor.is_none() && reads::has_executor(link, row.now.executor_id)?;
    match row.stage()? {
        Stage::Successful | Stage::Failed | Stage::Cancelled => Ok(vec![Reason::Finished]),
        Stage::Running => running(row, executor),
        Stage::Scheduled | Stage::Available if unreadable => Ok(vec![Reason::UnreadableExecutor]),
        Stage::Scheduled => {
            let until = time(row.now.due_at)?;
            let mut reasons = vec![Reason::WaitsForTime { until }];
            reasons.extend(of_executor(row, executor.as_ref(), here.now));
            Ok(reasons)
        }
        Stage::Available => available(link, row, executor.as_ref(), here),
    }
}

fn running(row: &TaskRow, executor: Option<Executor>) -> Result<Vec<Reason>> {
    let lease = row.lease()?.ok_or_else(|| corrupt("a running task without a lease"))?;
    let mut reasons = Vec::new();
    if row.now.cancel_requested_at.is_some() {
        reasons.push(Reason::CancelRequested { until: lease.expires_at });
    }
    reasons.push(Reason::Leased {
        executor: executor.map(|executor| executor.registration.name.to_string()),
        renewed_at: lease.renewed_at,
        expires_at: lease.expires_at,
    });
    Ok(reasons)
}

fn available(
    link: &mut Link<'_>,
    row: &TaskRow,
    executor: Option<&Executor>,
    here: Here<'_, impl FnOnce(&Executor, usize) -> Option<Lack>>,
) -> Result<Vec<Reason>> {
    let mut reasons = of_executor(row, executor, here.now);
    if let Some(executor) = executor {
        let name = executor.registration.name.to_string();
        if let Some(concurrency) = executor.registration.concurrency
            && in_flight(link, executor)? >= concurrency
        {
            reasons.push(Reason::ExecutorFull { executor: name.clone(), concurrency });
        }
        reasons.extend(of_queue(link, row)?);
        reasons.extend(of_workers(link, row, executor, &here)?);
        let bytes = sizes::records(link, &[row.seq])?.remove(&row.seq).unwrap_or(TASK_BYTES);
        reasons.extend((here.lack)(executor, bytes).map(|lack| Reason::ProcessFull { lack }));
        let count = ahead(link, row, executor)?;
        if count > 0 {
            reasons.push(Reason::BehindOthers { executor: name, count });
        }
    }
    if reasons.is_empty() {
        reasons.push(Reason::AboutToStart);
    }
    Ok(reasons)
}

/// The reasons that lie with the task's executor, or with the lack of one.
fn of_executor(row: &TaskRow, executor: Option<&Executor>, now: Timestamp) -> Vec<Reason> {
    let Some(executor) = executor else {
        return vec![Reason::Unrouted { task_path: row.task_path.clone() }];
    };
    let name = executor.registration.name.to_string();
    let mut reasons = Vec::new();
    if executor.registration.paused {
        reasons.push(Reason::ExecutorPaused { executor: name.clone() });
    }
    if let Some(until) = executor.circuit.held_until.filter(|until| now < *until) {
        let why = executor.circuit.reason.clone().unwrap_or_default();
        reasons.push(Reason::ExecutorHeld { executor: name, until, why });
    }
    reasons
}

/// The reason if no worker has lately asked for tasks of this executor and queue.
fn of_workers<L>(
    link: &mut Link<'_>,
    row: &TaskRow,
    executor: &Executor,
    here: &Here<'_, L>,
) -> Result<Option<Reason>> {
    if !executor.registration.target.is_worker() {
        return Ok(None);
    }
    // Workers that have asked this process, and those that other processes have written down.
    let asks = here.asks.of(executor.id).into_iter().chain(asks::load(link, executor.id)?);
    let asked_at = asks.filter(|ask| ask.queues.passes(&row.queue_name)).map(|ask| ask.at).max();
    if asked_at.is_some_and(|at| here.now <= later(at, ASKS_LATELY)) {
        return Ok(None);
    }
    Ok(Some(Reason::NoWorker {
        executor: executor.registration.name.to_string(),
        queue_name: row.queue_name.clone(),
        asked_at,
        running: in_flight(link, executor)?,
    }))
}

/// The reason that lies with the task's queue, if there is one.
fn of_queue(link: &mut Link<'_>, row: &TaskRow) -> Result<Option<Reason>> {
    const HOLDERS_SHOWN: usize = 5;
    let settings = registry::load_queues(link)?.remove(&row.queue_name).unwrap_or_default();
    let queue_name = row.queue_name.clone();
    if settings.paused {
        return Ok(Some(Reason::QueuePaused { queue_name }));
    }
    let Some(concurrency) = settings.concurrency else {
        return Ok(None);
    };
    let running = tasks::table
        .filter(stage::is_running())
        .filter(tasks::queue_name.eq(&row.queue_name))
        .limit(i64::from(concurrency))
        .select(tasks::id);
    let running: Vec<Vec<u8>> = on_engine!(link, c => running.load(c))?;
    if running.len() < usize::try_from(concurrency).unwrap_or(usize::MAX) {
        return Ok(None);
    }
    let holders = running.iter().take(HOLDERS_SHOWN).filter_map(|id| Uuid::from_slice(id).ok());
    let holders = holders.map(|id| id.to_string()).collect();
    Ok(Some(Reason::QueueFull { queue_name, concurrency, holders }))
}

fn in_flight(link: &mut Link<'_>, executor: &Executor) -> Result<u32> {
    let running = tasks::table
        .filter(stage::is_running())
        .filter(tasks::executor_id.eq(executor.id.0))
        .select(count_star());
    let running: i64 = on_engine!(link, c => running.first(c))?;
    Ok(u32::try_from(running).unwrap_or(u32::MAX))
}

/// How many due tasks of the same executor come first, counted up to a bound.
fn ahead(link: &mut Link<'_>, row: &TaskRow, executor: &Executor) -> Result<u32> {
    let (priority, due_at, seq) = (row.priority, row.now.due_at, row.seq);
    let before =
        tasks::table
            .filter(stage::is_available())
            .filter(tasks::executor_id.eq(executor.id.0))
            .filter(tasks::priority.gt(priority).or(tasks::priority.eq(priority).and(
                tasks::due_at.lt(due_at).or(tasks::due_at.eq(due_at).and(tasks::seq.lt(seq))),
            )))
            .limit(i64::from(AHEAD_COUNTED_MAX))
            .select(tasks::seq);
    let seqs: Vec<i64> = on_engine!(link, c => before.load(c))?;
    Ok(u32::try_from(seqs.len()).unwrap_or(AHEAD_COUNTED_MAX))
}
