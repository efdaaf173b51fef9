//! Applies the decisions of [`next`] to locked rows: sets columns, records results and errors, and
//! notes events and signals. Only `next` knows which stage may follow which.

use std::time::Duration;

use super::{
    circuit,
    error::{Error, Result},
    rows::{Changing, ErrorRow, ResultRow, TaskRow, count, micros, number, time, to_json},
    tx::Tx,
};
use crate::{
    clock::later,
    domain::{
        Timestamp,
        attempt::{Failure, FailureKind, Outcome},
        event::Change,
        json::JsonText,
        limits::CANCEL_GRACE,
        state::{Event, Illegal, Next, Stage, State, next},
        task::{TaskId, Terms, first_stage},
    },
    metrics::outcome_name,
};

/// How often a task keeps its place in the order although its executor has refused it.
const REFUSALS_IN_PLACE: u32 = 3;
/// How long it waits after the first refusal beyond those. Each further one doubles the wait.
const REFUSED_WAIT_FIRST: Duration = Duration::from_secs(1);
const REFUSED_WAIT_MAX: Duration = Duration::from_mins(1);

/// The state of a row, as the domain sees it.
pub(super) fn state(tx: &Tx<'_>, row: &TaskRow) -> Result<State> {
    let counted = row.now.attempts - row.now.attempts_before;
    Ok(State {
        stage: row.stage()?,
        attempts_left: count(counted) < terms(tx, row)?.max_attempts,
        deliveries_left: count(row.now.deliveries) < tx.deliveries_max,
        cancel_requested: row.now.cancel_requested_at.is_some(),
    })
}

/// The terms of the task's attempts, as they are now.
pub(super) fn terms(tx: &Tx<'_>, row: &TaskRow) -> Result<Terms> {
    let executor = row.executor_id().and_then(|id| tx.registry.get(id));
    Ok(row.options()?.resolve(executor.map(|executor| executor.defaults_for(&row.task_path))))
}

pub(super) fn task_id(id: &[u8]) -> Result<TaskId> {
    uuid::Uuid::from_slice(id)
        .map(TaskId)
        .map_err(|_error| Error::Corrupt("an id that is not sixteen bytes".to_owned()))
}

/// Ends the present attempt of a locked RUNNING row, saves the row, and returns its stage.
pub(super) fn end_attempt(tx: &mut Tx<'_>, mut row: TaskRow, outcome: &Outcome) -> Result<Stage> {
    let next = next(state(tx, &row)?, outcome.event()).map_err(impossible)?;
    circuit::learn(tx, &row, outcome)?;
    let cancelled_anyhow = matches!(next, Next::Cancelled);
    tx.count_end(&row, if cancelled_anyhow { "cancelled" } else { outcome_name(outcome) });
    match next {
        Next::Successful => {
            if let Outcome::Succeeded(value) = outcome {
                record_result(tx, row.seq, value);
            }
            finish(tx, &mut row, Stage::Successful, None)?;
        }
        Next::RetryLater => wait_for_retry(tx, &mut row, failure(outcome))?,
        Next::Returned => give_back(tx, &mut row, outcome)?,
        Next::Failed => finish(tx, &mut row, Stage::Failed, Some(failure(outcome)))?,
        Next::Cancelled => cancelled(tx, &mut row)?,
        Next::Available | Next::Running | Next::Stopping | Next::Unchanged => {}
    }
    let stage = row.stage()?;
    tx.changes.save(row)?;
    Ok(stage)
}

/// The failure that the record shows for an outcome that was no success.
fn failure(outcome: &Outcome) -> Failure {
    match outcome {
        Outcome::Failed(failure) => failure.clone(),
        Outcome::Undelivered { reason, .. } => {
            Failure::new(FailureKind::Unreachable, reason.clone())
        }
        Outcome::Succeeded(_) | Outcome::HandedBack | Outcome::Cancelled => {
            Failure::new(FailureKind::Cancelled, "the task was cancelled")
        }
    }
}

/// Makes the row CANCELLED; the caller saves it.
pub(super) fn cancelled(tx: &mut Tx<'_>, row: &mut TaskRow) -> Result<()> {
    row.now.cancel_requested_at.get_or_insert(micros(tx.now));
    let failure = Failure::new(FailureKind::Cancelled, "the task was cancelled");
    finish(tx, row, Stage::Cancelled, Some(failure))
}

/// Makes the row FAILED because its time to start has passed; the caller saves it.
pub(super) fn expired(tx: &mut Tx<'_>, row: &mut TaskRow) -> Result<()> {
    let message = "the task was still waiting when expires_at passed";
    finish(tx, row, Stage::Failed, Some(Failure::new(FailureKind::Expired, message)))
}

/// Makes a waiting row that cannot be read FAILED, so that its task keeps no place in the order.
/// This has to come before the row is saved for another reason: a saved row holds the mended
/// values, and then looks as if it could be read.
pub(super) fn end_unreadable(tx: &mut Tx<'_>, mut row: TaskRow, flaw: &str) -> Result<()> {
    finish(tx, &mut row, Stage::Failed, Some(Failure::unreadable(flaw)))?;
    tx.changes.save(row)
}

fn finish(
    tx: &mut Tx<'_>,
    row: &mut TaskRow,
    stage: Stage,
    failure: Option<Failure>,
) -> Result<()> {
    let failure = failure.map(|failure| record_failure(tx, row, failure));
    row.now.stage = stage as i16;
    row.now.finished_at = Some(micros(tx.now));
    drop_lease(&mut row.now);
    tx.effects.finished.push(task_id(&row.id)?);
    tx.room_after(row);
    tx.tell(row, &Change::Ended { failure })
}

fn wait_for_retry(tx: &mut Tx<'_>, row: &mut TaskRow, failure: Failure) -> Result<()> {
    let failure = record_failure(tx, row, failure);
    let failed = count(row.now.attempts - row.now.attempts_before);
    let wait = terms(tx, row)?.backoff.delay(failed, tx.entropy.chance());
    let due_at = later(tx.now, wait);
    row.now.due_at = micros(due_at);
    row.now.progress_fraction = None;
    row.now.progress_message = None;
    drop_lease(&mut row.now);
    wait_from(tx, row, due_at);
    tx.tell(row, &Change::AttemptFailed { failure: Some(failure), run_after: Some(due_at) })
}

/// Puts the row back where it was before it was claimed. A task that its executor refuses again and
/// again waits a little: it may be the only one that is refused, and as the first in the order it
/// would keep the executor from all others.
fn give_back(tx: &mut Tx<'_>, row: &mut TaskRow, outcome: &Outcome) -> Result<()> {
    let attempt = count(row.now.attempts);
    let mut worker_ids = row.worker_ids()?;
    worker_ids.pop();
    row.now.worker_ids = to_json(&worker_ids, "worker_ids")?;
    row.now.attempts = number(count(row.now.attempts).saturating_sub(1));
    if row.now.attempts == 0 {
        row.now.started_at = None;
        row.now.last_attempted_at = None;
    }
    drop_lease(&mut row.now);
    let refusals = count(row.now.deliveries - row.now.attempts);
    // The task was due when it was claimed, even if the clock was set back since.
    let mut due_at = tx.now;
    if matches!(outcome, Outcome::Undelivered { .. }) && refusals > REFUSALS_IN_PLACE {
        let doublings = (refusals - REFUSALS_IN_PLACE - 1).min(16);
        let wait = (REFUSED_WAIT_FIRST * (1 << doublings)).min(REFUSED_WAIT_MAX);
        due_at = later(tx.now, wait);
        row.now.due_at = micros(due_at);
    }
    wait_from(tx, row, due_at);
    let run_after = (due_at > tx.now).then_some(due_at);
    tx.tell_of_attempt(row, attempt, &Change::Released { run_after })
}

/// Makes the row READY with the given due time.
pub(super) fn wait_from(tx: &mut Tx<'_>, row: &mut TaskRow, due_at: Timestamp) {
    let stage = first_stage(due_at, tx.now);
    row.now.stage = stage as i16;
    // A task that waits for a later time frees the place that it had, too.
    tx.room_after(row);
    if stage == Stage::Scheduled {
        tx.effects.sweep_by(due_at);
    } else {
        tx.work_for(row.executor_id());
    }
}

/// Asks a locked RUNNING row to stop: its lease ends when the grace is over. The caller saves the
/// row.
pub(super) fn stopping(tx: &mut Tx<'_>, row: &mut TaskRow) -> Result<()> {
    row.now.cancel_requested_at = Some(micros(tx.now));
    let until = micros(later(tx.now, CANCEL_GRACE));
    let expires_at = row.now.lease_expires_at.map_or(until, |at| at.min(until));
    row.now.lease_expires_at = Some(expires_at);
    tx.effects.sweep_by(time(expires_at)?);
    tx.tell(row, &Change::CancelRequested)
}

pub(super) fn drop_lease(now: &mut Changing) {
    now.lease_secret = None;
    now.lease_renewed_at = None;
    now.lease_expires_at = None;
    now.deadline_at = None;
    now.detached = false;
}

/// Adds to the errors of the record, and returns the short form that an event shows.
fn record_failure(tx: &mut Tx<'_>, row: &TaskRow, failure: Failure) -> Failure {
    let failure = failure.bounded();
    let brief = failure.brief();
    tx.changes.record_error(ErrorRow {
        task_seq: row.seq,
        attempt: row.now.attempts,
        kind: failure.kind as i16,
        at: micros(tx.now),
        exception_class_path: failure.exception_class_path,
        message: failure.message,
        traceback: failure.traceback,
    });
    brief
}

fn record_result(tx: &mut Tx<'_>, seq: i64, value: &JsonText) {
    if *value != JsonText::null() {
        let return_value = value.as_str().to_owned();
        tx.changes.record_result(ResultRow { task_seq: seq, return_value });
    }
}

pub(super) fn impossible(illegal: Illegal) -> Error {
    Error::Corrupt(format!("a task for which {illegal}"))
}

/// Whether `event` may happen to the row, and where it leads.
pub(super) fn consider(
    tx: &Tx<'_>,
    row: &TaskRow,
    event: Event,
) -> Result<std::result::Result<Next, Illegal>> {
    Ok(next(state(tx, row)?, event))
}
