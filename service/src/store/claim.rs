//! Hands out the tasks that may start now.

use std::{collections::HashMap, sync::Arc};

use diesel::{dsl::count_star, prelude::*};

use super::{
    circuit, dialect,
    error::Result,
    link::on_engine,
    rows::{Inputs, LabelRow, TaskRow, corrupt, count, group_labels, micros, time, to_json},
    schema::{stage, task_inputs, task_labels, tasks},
    transition,
    tx::Tx,
};
use crate::{
    clock::later,
    domain::{
        executor::{Executor, ExecutorId},
        json::JsonText,
        lease::{Assignment, Claimed, Lease, LeaseToken},
        state::{Event, Stage},
    },
};

/// Rows looked at for one executor in one claim; those that turn out not to be startable are
/// mended, so that the next claim gets further.
const ROWS_MAX: u32 = 1_000;

/// A claim for as many tasks as the asking process may start.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRequest {
    pub permits: u32,
}

/// Claims for each executor the first of its due tasks, as many as it has room for.
pub(super) fn claim(tx: &mut Tx<'_>, requests: &[&ClaimRequest]) -> Result<Vec<Vec<Claimed>>> {
    let mut in_flight = in_flight(tx)?;
    let mut answers = Vec::with_capacity(requests.len());
    for request in requests {
        answers.push(claim_up_to(tx, request.permits, &mut in_flight)?);
    }
    Ok(answers)
}

/// How many attempts of each executor run, wherever they run.
fn in_flight(tx: &mut Tx<'_>) -> Result<HashMap<ExecutorId, u32>> {
    let counts = tasks::table
        .filter(stage::is_running())
        .filter(tasks::executor_id.is_not_null())
        .group_by(tasks::executor_id)
        .select((tasks::executor_id.assume_not_null(), count_star()));
    let rows: Vec<(i64, i64)> = on_engine!(&mut tx.link, c => counts.load(c))?;
    Ok(rows
        .into_iter()
        .map(|(id, running)| (ExecutorId(id), u32::try_from(running).unwrap_or(u32::MAX)))
        .collect())
}

fn claim_up_to(
    tx: &mut Tx<'_>,
    permits: u32,
    in_flight: &mut HashMap<ExecutorId, u32>,
) -> Result<Vec<Claimed>> {
    let mut claimed = Vec::new();
    let mut executors: Vec<Arc<Executor>> = tx.registry.all().cloned().collect();
    // Where there are fewer permits than work, no executor is always the last one.
    let first = tx.entropy.below(executors.len());
    executors.rotate_left(first);
    for executor in executors {
        let left = permits.saturating_sub(u32::try_from(claimed.len()).unwrap_or(u32::MAX));
        let running = in_flight.entry(executor.id).or_default();
        let registration = &executor.registration;
        let room = executor.circuit.room(tx.now, registration.concurrency, *running).min(left);
        if room == 0 || registration.paused {
            continue;
        }
        let started = claim_for(tx, &executor, room.min(ROWS_MAX))?;
        if executor.circuit.is_probing() && !started.is_empty() {
            circuit::probe(tx, &executor)?;
        }
        *running += u32::try_from(started.len()).unwrap_or(u32::MAX);
        claimed.extend(started);
    }
    Ok(claimed)
}

fn claim_for(tx: &mut Tx<'_>, executor: &Arc<Executor>, room: u32) -> Result<Vec<Claimed>> {
    let rows = dialect::lock_available(&mut tx.link, executor.id.0, i64::from(room))?;
    let full = rows.len() == usize::try_from(room).unwrap_or(usize::MAX);
    let mut startable = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(row) = startable_or_mended(tx, executor, row)? {
            startable.push(row);
        }
    }
    if full {
        // There may be more, and some of these may not have counted.
        tx.effects.work |= startable.len() < usize::try_from(room).unwrap_or(usize::MAX);
    }
    start(tx, executor, startable)
}

/// Passes on a task that may start; one that expired or belongs to another executor by now is
/// put right instead.
fn startable_or_mended(
    tx: &mut Tx<'_>,
    executor: &Executor,
    mut row: TaskRow,
) -> Result<Option<TaskRow>> {
    if row.expires_at.is_some_and(|at| at <= micros(tx.now)) {
        transition::expired(tx, &mut row)?;
        transition::save(tx, &row, Stage::Available)?;
        return Ok(None);
    }
    let route = tx.registry.route(&row.task_path);
    if route != Some(executor.id) {
        row.now.executor_id = route.map(|id| id.0);
        tx.effects.work = true;
        transition::save(tx, &row, Stage::Available)?;
        return Ok(None);
    }
    Ok(Some(row))
}

fn start(tx: &mut Tx<'_>, executor: &Arc<Executor>, rows: Vec<TaskRow>) -> Result<Vec<Claimed>> {
    let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
    let mut inputs = inputs(tx, &seqs)?;
    let mut labels = group_labels(labels(tx, &seqs)?);
    let mut claimed = Vec::with_capacity(rows.len());
    for mut row in rows {
        let inputs = inputs.remove(&row.seq).ok_or_else(|| corrupt("a task without inputs"))?;
        let labels = labels.remove(&row.seq).unwrap_or_default();
        if transition::consider(tx, &row, Event::Claimed)?.is_err() {
            continue;
        }
        let token = LeaseToken { seq: row.seq, secret: tx.entropy.bytes() };
        let terms = begin(tx, executor, &mut row, token)?;
        transition::save(tx, &row, Stage::Available)?;
        claimed.push(Claimed {
            assignment: assignment(&row, inputs, labels, token, terms)?,
            lease: Lease::claimed(token),
            executor: Arc::clone(executor),
        });
    }
    Ok(claimed)
}

/// Turns a waiting row into a running one and says how many attempts it has in all.
fn begin(
    tx: &mut Tx<'_>,
    executor: &Executor,
    row: &mut TaskRow,
    token: LeaseToken,
) -> Result<u32> {
    let terms = transition::terms(tx, row)?;
    let deadline = later(tx.now, terms.timeout);
    let expires_at = later(tx.now, executor.registration.lease).min(deadline);
    let mut worker_ids = row.worker_ids()?;
    worker_ids.push(executor.registration.name.as_str().to_owned());
    let now = micros(tx.now);
    row.now.stage = Stage::Running as i16;
    row.now.attempts += 1;
    row.now.deliveries += 1;
    row.now.worker_ids = to_json(&worker_ids, "worker_ids")?;
    row.now.lease_secret = Some(token.secret.to_vec());
    row.now.lease_renewed_at = Some(now);
    row.now.lease_expires_at = Some(micros(expires_at));
    row.now.deadline_at = Some(micros(deadline));
    row.now.detached = false;
    row.now.started_at.get_or_insert(now);
    row.now.last_attempted_at = Some(now);
    row.now.progress_fraction = None;
    row.now.progress_message = None;
    tx.effects.sweep_by(expires_at);
    Ok(terms.max_attempts.saturating_add(count(row.now.attempts_before)))
}

fn assignment(
    row: &TaskRow,
    inputs: Inputs,
    labels: std::collections::BTreeMap<String, String>,
    token: LeaseToken,
    max_attempts: u32,
) -> Result<Assignment> {
    let valid =
        |text: &str| JsonText::from_valid(text).map_err(|_invalid| corrupt("JSON too deep"));
    let deadline_at = row.now.deadline_at.ok_or_else(|| corrupt("an attempt without deadline"))?;
    Ok(Assignment {
        task_id: transition::task_id(row)?,
        task_path: row.task_path.parse().map_err(|_invalid| corrupt("a wrong task_path"))?,
        args: valid(&inputs.args)?,
        kwargs: valid(&inputs.kwargs)?,
        attempt: count(row.now.attempts),
        max_attempts,
        queue_name: row.queue_name.parse().map_err(|_invalid| corrupt("a wrong queue_name"))?,
        priority: row.priority,
        labels,
        enqueued_at: time(row.enqueued_at)?,
        deadline: time(deadline_at)?,
        traceparent: inputs.traceparent,
        token,
    })
}

fn inputs(tx: &mut Tx<'_>, seqs: &[i64]) -> Result<HashMap<i64, Inputs>> {
    let rows = task_inputs::table.filter(task_inputs::task_seq.eq_any(seqs));
    let rows: Vec<(i64, Inputs)> = on_engine!(&mut tx.link, c => {
        rows.select((task_inputs::task_seq, Inputs::as_select())).load(c)
    })?;
    Ok(rows.into_iter().collect())
}

fn labels(tx: &mut Tx<'_>, seqs: &[i64]) -> Result<Vec<LabelRow>> {
    let rows = task_labels::table.filter(task_labels::task_seq.eq_any(seqs));
    Ok(on_engine!(&mut tx.link, c => rows.select(LabelRow::as_select()).load(c))?)
}
