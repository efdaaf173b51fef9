//! The sweep applies the passage of time to tasks. It makes them due, lets them expire and ends
//! their leases, and it brings waiting tasks to other executors after a change of executors. The
//! reaper calls it. It works in bounded steps, so that no other command waits long behind one.

use std::time::Duration;

use diesel::{dsl::min, prelude::*};

use super::{
    dialect,
    error::Result,
    floors::Floors,
    link::{Link, on_engine},
    rows::{TaskRow, micros, nearest_time},
    schema::{executors, routing, stage, tasks},
    signals::CancelSignal,
    steer, transition,
    tx::Tx,
};
use crate::{
    clock::later,
    domain::{
        Timestamp,
        attempt::{Failure, FailureKind, Outcome},
        lease::LeaseToken,
        state::{Event, Stage},
    },
};

/// How many rows one step of each kind changes.
const STEP_ROWS: i64 = 500;
/// How many rows one step of routing anew looks at.
const REROUTE_ROWS: i64 = 5_000;

/// One round of the sweep.
#[derive(Clone, Copy, Debug)]
pub(super) struct SweepRequest;

/// When a sweep looks again that could do nothing because other transactions have the rows.
const BLOCKED_RETRY: Duration = Duration::from_millis(500);

pub(super) fn sweep(tx: &mut Tx<'_>, requests: &[&SweepRequest]) -> Result<Vec<()>> {
    let mut changed = 0;
    // One process sweeps for all. The lock goes with the transaction, so that a process that dies
    // does not keep it.
    if dialect::try_lock_sweep(&mut tx.link)? {
        changed += promote(tx)?;
        changed += expire(tx)?;
        changed += reap(tx)?;
        changed += reroute(tx)?;
        tx.flush()?;
        trim_rewinds(tx)?;
    }
    probe(tx);
    look_for_news(tx)?;
    tx.effects.swept = true;
    tx.effects.sweep_at = next_at(tx)?;
    if changed == 0 {
        let not_before = later(tx.now, BLOCKED_RETRY);
        tx.effects.sweep_at =
            tx.effects.sweep_at.map(|at| if at <= tx.now { not_before } else { at });
    }
    Ok(vec![(); requests.len()])
}

/// The rows with these `seq`, except those that another transaction is changing.
fn free_rows(tx: &mut Tx<'_>, seqs: &[i64]) -> Result<Vec<TaskRow>> {
    let rows = dialect::lock_free_tasks(&mut tx.link, seqs)?;
    tx.changes.hold(rows);
    Ok(seqs.iter().filter_map(|seq| tx.changes.row(*seq)).collect())
}

/// Makes READY tasks available whose time has come.
fn promote(tx: &mut Tx<'_>) -> Result<usize> {
    let due = tasks::table
        .filter(stage::is_scheduled())
        .filter(tasks::due_at.between(tx.floors.due, micros(tx.now)))
        .order(tasks::due_at)
        .limit(STEP_ROWS)
        .select(tasks::seq);
    let seqs: Vec<i64> = on_engine!(&mut tx.link, c => due.load(c))?;
    let rows = free_rows(tx, &seqs)?;
    let count = rows.len();
    for mut row in rows {
        if let Some(flaw) = flaw_of_waiting(tx, &row) {
            transition::end_unreadable(tx, row, &flaw)?;
        } else if transition::consider(tx, &row, Event::Due)?.is_ok() {
            row.now.stage = Stage::Available as i16;
            tx.work_for(row.executor_id());
            tx.changes.save(row)?;
        }
    }
    Ok(count)
}

/// Ends waiting tasks whose time to start has passed.
fn expire(tx: &mut Tx<'_>) -> Result<usize> {
    let late = tasks::table
        .filter(stage::is_waiting())
        .filter(tasks::expires_at.between(tx.floors.expiring, micros(tx.now)))
        .order(tasks::expires_at)
        .limit(STEP_ROWS)
        .select(tasks::seq);
    let seqs: Vec<i64> = on_engine!(&mut tx.link, c => late.load(c))?;
    let rows = free_rows(tx, &seqs)?;
    let count = rows.len();
    for mut row in rows {
        if transition::consider(tx, &row, Event::Expired)?.is_ok() {
            transition::expired(tx, &mut row)?;
            tx.changes.save(row)?;
        }
    }
    Ok(count)
}

/// Ends attempts whose lease has run out.
fn reap(tx: &mut Tx<'_>) -> Result<usize> {
    let now = micros(tx.now);
    let over = tasks::table
        .filter(stage::is_running())
        .filter(tasks::lease_expires_at.between(tx.floors.leased, now))
        .order(tasks::lease_expires_at)
        .limit(STEP_ROWS)
        .select(tasks::seq);
    let seqs: Vec<i64> = on_engine!(&mut tx.link, c => over.load(c))?;
    let rows = free_rows(tx, &seqs)?;
    let count = rows.len();
    for row in rows {
        // A report may have come after the look, and before the row was locked.
        if row.stage()? != Stage::Running || row.now.lease_expires_at.is_none_or(|at| now < at) {
            continue;
        }
        let timed_out = row.now.deadline_at.is_some_and(|deadline| deadline <= now);
        let failure = if timed_out {
            Failure::new(FailureKind::Timeout, "the attempt took longer than timeout_seconds")
        } else {
            Failure::new(FailureKind::Lost, "the lease ran out without a word from the executor")
        };
        // The executor may still work on it, and has to stop.
        let signal = steer::cancel_signal(tx, &row)?;
        transition::end_attempt(tx, row, &Outcome::Failed(failure))?;
        tx.effects.cancels.extend(signal);
    }
    Ok(count)
}

/// Brings waiting tasks to the executors that serve them since the last registration.
fn reroute(tx: &mut Tx<'_>) -> Result<usize> {
    let span = routing::table.select((routing::next_seq, routing::end_seq));
    let (next_seq, end_seq): (i64, i64) = on_engine!(&mut tx.link, c => span.first(c))?;
    if next_seq > end_seq {
        return Ok(0);
    }
    // The statement below reads the database, so changes in memory have to be written first.
    tx.flush()?;
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
    let wrong: Vec<i64> = rows
        .iter()
        .filter(|(_, stage, task_path, executor_id)| {
            is_waiting(*stage) && tx.registry.route(task_path).map(|id| id.0) != *executor_id
        })
        .map(|(seq, ..)| *seq)
        .collect();
    tx.changes.lock(&mut tx.link, &wrong, &[])?;
    for mut row in wrong.iter().filter_map(|seq| tx.changes.row(*seq)).collect::<Vec<_>>() {
        if let Some(flaw) = flaw_of_waiting(tx, &row) {
            transition::end_unreadable(tx, row, &flaw)?;
        } else if is_waiting(row.now.stage) {
            let route = tx.registry.route(&row.task_path);
            row.now.executor_id = route.map(|id| id.0);
            tx.work_for(route);
            tx.changes.save(row)?;
        }
    }
    let progress = diesel::update(routing::table).set(routing::next_seq.eq(reached));
    on_engine!(&mut tx.link, c => progress.execute(c))?;
    Ok(rows.len())
}

fn is_waiting(stage: i16) -> bool {
    stage == Stage::Scheduled as i16 || stage == Stage::Available as i16
}

/// The part of a waiting task that cannot be read.
fn flaw_of_waiting(tx: &Tx<'_>, row: &TaskRow) -> Option<String> {
    tx.changes.flaw(row.seq).filter(|_| is_waiting(row.now.stage)).map(str::to_owned)
}

/// Deletes the rewinds that no process reads any more.
fn trim_rewinds(tx: &mut Tx<'_>) -> Result<()> {
    if let Link::Postgres(c) = &mut tx.link {
        let trimmed = &mut tx.floors.rewinds_trimmed;
        *trimmed = dialect::trim_rewinds(c, *trimmed, micros(tx.now))?;
    }
    Ok(())
}

/// Wakes the dispatcher for executors whose hold is over, since they may be tried again.
fn probe(tx: &mut Tx<'_>) {
    tx.effects.work.dispatcher |= tx
        .registry
        .all()
        .any(|executor| executor.circuit.held_until.is_some_and(|until| until <= tx.now));
}

/// Repeats the signals of other processes, in case their messages did not arrive.
fn look_for_news(tx: &mut Tx<'_>) -> Result<()> {
    let Link::Postgres(c) = &mut tx.link else {
        return Ok(());
    };
    tx.effects.work.dispatcher = true;
    let stopping = tasks::table
        .filter(stage::is_running())
        .filter(tasks::cancel_requested_at.is_not_null())
        .limit(STEP_ROWS)
        .select((tasks::seq, tasks::lease_secret.assume_not_null()));
    let stopping: Vec<(i64, Vec<u8>)> = stopping.load(*c)?;
    tx.effects.recalls = stopping
        .into_iter()
        .filter_map(|(seq, secret)| {
            let token = LeaseToken { seq, secret: secret.try_into().ok()? };
            Some(CancelSignal { token, callee: None })
        })
        .collect();
    Ok(())
}

/// Whether every waiting task belongs to the executor that serves it now.
pub(super) fn is_routed(link: &mut Link<'_>) -> Result<bool> {
    let done = routing::table.select(routing::next_seq.gt(routing::end_seq));
    Ok(on_engine!(link, c => done.first(c))?)
}

/// The next time at which one of the steps above has something to do.
fn next_at(tx: &mut Tx<'_>) -> Result<Option<Timestamp>> {
    let horizon = tx.floors.find_horizon(&mut tx.link, tx.now)?;
    let Floors { due, leased, expiring, .. } = &mut *tx.floors;
    let first_due = tasks::table
        .filter(stage::is_scheduled())
        .filter(tasks::due_at.ge(*due))
        .select(min(tasks::due_at));
    let first_late = tasks::table
        .filter(stage::is_waiting())
        .filter(tasks::expires_at.ge(*expiring))
        .select(min(tasks::expires_at));
    let first_over = tasks::table
        .filter(stage::is_running())
        .filter(tasks::lease_expires_at.ge(*leased))
        .select(min(tasks::lease_expires_at));
    let held = executors::table
        .filter(executors::held_until.gt(micros(tx.now)))
        .select(min(executors::held_until));
    let routed = is_routed(&mut tx.link)?;
    let times: [Option<i64>; 4] = on_engine!(&mut tx.link, c => [
        first_due.first(c)?, first_late.first(c)?, first_over.first(c)?, held.first(c)?
    ]);
    // Nothing lies before these times but dead entries, which the next looks need not pass.
    if tx.link.is_shared() {
        for (floor, first) in [due, expiring, leased].into_iter().zip(&times) {
            *floor = first.map_or(horizon, |first| first.min(horizon));
        }
    }
    let soonest = times.into_iter().flatten().min().map(nearest_time);
    // Tasks that have yet to be routed anew cannot wait.
    Ok(if routed { soonest } else { Some(tx.now) })
}
