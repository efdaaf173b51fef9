//! What time does to tasks: makes them due, lets them expire, ends their leases. And what a
//! change of executors leaves to do. In bounded steps, so that nobody waits long behind one.

use diesel::{dsl::min, prelude::*};

use super::{
    dialect,
    error::Result,
    link::on_engine,
    rows::{micros, time},
    schema::{executors, routing, stage, tasks},
    steer, transition,
    tx::Tx,
};
use crate::domain::{
    Timestamp,
    attempt::{Failure, FailureKind, Outcome},
    state::{Event, Stage},
};

/// Rows changed by one step of each kind.
const STEP_ROWS: i64 = 500;
/// Rows looked at by one step of routing anew.
const REROUTE_ROWS: i64 = 5_000;

/// One round of the sweep.
#[derive(Clone, Copy, Debug)]
pub(super) struct SweepRequest;

pub(super) fn sweep(tx: &mut Tx<'_>, requests: &[&SweepRequest]) -> Result<Vec<()>> {
    promote(tx)?;
    expire(tx)?;
    reap(tx)?;
    reroute(tx)?;
    probe(tx);
    tx.effects.swept = true;
    tx.effects.sweep_at = next_at(tx)?;
    Ok(vec![(); requests.len()])
}

/// READY tasks whose time has come may be claimed.
fn promote(tx: &mut Tx<'_>) -> Result<()> {
    let due = tasks::table
        .filter(stage::is_scheduled())
        .filter(tasks::due_at.le(micros(tx.now)))
        .order(tasks::due_at)
        .limit(STEP_ROWS)
        .select(tasks::seq);
    let seqs: Vec<i64> = on_engine!(&mut tx.link, c => due.load(c))?;
    for mut row in dialect::lock_tasks(&mut tx.link, &seqs)? {
        if transition::consider(tx, &row, Event::Due)?.is_ok() {
            row.now.stage = Stage::Available as i16;
            transition::save(tx, &row, Stage::Scheduled)?;
            tx.effects.work = true;
        }
    }
    Ok(())
}

/// Waiting tasks that nobody wants started any more have failed.
fn expire(tx: &mut Tx<'_>) -> Result<()> {
    let late = tasks::table
        .filter(stage::is_waiting())
        .filter(tasks::expires_at.le(micros(tx.now)))
        .order(tasks::expires_at)
        .limit(STEP_ROWS)
        .select(tasks::seq);
    let seqs: Vec<i64> = on_engine!(&mut tx.link, c => late.load(c))?;
    for mut row in dialect::lock_tasks(&mut tx.link, &seqs)? {
        let before = row.stage()?;
        if transition::consider(tx, &row, Event::Expired)?.is_ok() {
            transition::expired(tx, &mut row)?;
            transition::save(tx, &row, before)?;
        }
    }
    Ok(())
}

/// Attempts whose lease ran out are over.
fn reap(tx: &mut Tx<'_>) -> Result<()> {
    let now = micros(tx.now);
    let over = tasks::table
        .filter(stage::is_running())
        .filter(tasks::lease_expires_at.le(now))
        .order(tasks::lease_expires_at)
        .limit(STEP_ROWS)
        .select(tasks::seq);
    let seqs: Vec<i64> = on_engine!(&mut tx.link, c => over.load(c))?;
    for row in dialect::lock_tasks(&mut tx.link, &seqs)? {
        if row.stage()? != Stage::Running || row.now.lease_expires_at.is_none_or(|at| now < at) {
            continue;
        }
        let timed_out = row.now.deadline_at.is_some_and(|deadline| deadline <= now);
        let failure = if timed_out {
            Failure::new(FailureKind::Timeout, "the attempt took longer than timeout_seconds")
        } else {
            Failure::new(FailureKind::Lost, "the lease ran out without a word from the executor")
        };
        // Whoever still works on it ought to stop.
        let signal = steer::cancel_signal(tx, &row)?;
        transition::end_attempt(tx, row, &Outcome::Failed(failure))?;
        tx.effects.cancels.extend(signal);
    }
    Ok(())
}

/// Brings waiting tasks to the executors that serve them since the last registration.
fn reroute(tx: &mut Tx<'_>) -> Result<()> {
    let span = routing::table.select((routing::next_seq, routing::end_seq));
    let (next_seq, end_seq): (i64, i64) = on_engine!(&mut tx.link, c => span.first(c))?;
    if next_seq > end_seq {
        return Ok(());
    }
    let rows = tasks::table
        .filter(tasks::seq.between(next_seq, end_seq))
        .order(tasks::seq)
        .limit(REROUTE_ROWS)
        .select((tasks::seq, tasks::stage, tasks::task_path, tasks::executor_id));
    let rows: Vec<(i64, i16, String, Option<i64>)> = on_engine!(&mut tx.link, c => rows.load(c))?;
    let reached = match rows.last() {
        Some((seq, ..)) if rows.len() == usize::try_from(REROUTE_ROWS).unwrap_or(0) => seq + 1,
        _ => end_seq + 1,
    };
    for (seq, stage, task_path, executor_id) in rows {
        let waiting = stage == Stage::Scheduled as i16 || stage == Stage::Available as i16;
        let route = tx.registry.route(&task_path).map(|id| id.0);
        if waiting && route != executor_id {
            let change = diesel::update(tasks::table.find(seq).filter(stage::is_waiting()))
                .set(tasks::executor_id.eq(route));
            on_engine!(&mut tx.link, c => change.execute(c))?;
            tx.effects.work |= route.is_some();
        }
    }
    let progress = diesel::update(routing::table).set(routing::next_seq.eq(reached));
    on_engine!(&mut tx.link, c => progress.execute(c))?;
    Ok(())
}

/// Executors that were held may be tried again.
fn probe(tx: &mut Tx<'_>) {
    tx.effects.work |= tx
        .registry
        .all()
        .any(|executor| executor.circuit.held_until.is_some_and(|until| until <= tx.now));
}

/// The next time at which one of the above has something to do.
fn next_at(tx: &mut Tx<'_>) -> Result<Option<Timestamp>> {
    let due = tasks::table.filter(stage::is_scheduled()).select(min(tasks::due_at));
    let late = tasks::table
        .filter(stage::is_waiting())
        .filter(tasks::expires_at.is_not_null())
        .select(min(tasks::expires_at));
    let over = tasks::table.filter(stage::is_running()).select(min(tasks::lease_expires_at));
    let held = executors::table
        .filter(executors::held_until.gt(micros(tx.now)))
        .select(min(executors::held_until));
    let unrouted: bool = on_engine!(&mut tx.link, c =>
        routing::table.select(routing::next_seq.le(routing::end_seq)).first(c))?;
    let times: [Option<i64>; 4] = on_engine!(&mut tx.link, c => [
        due.first(c)?, late.first(c)?, over.first(c)?, held.first(c)?
    ]);
    let soonest = times.into_iter().flatten().min().map(time).transpose()?;
    Ok(if unrouted { Some(tx.now) } else { soonest })
}
