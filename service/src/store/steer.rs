//! The requests of users about a task that was enqueued: cancel, retry, delete.

use std::sync::Arc;

use diesel::prelude::*;

use super::{
    error::Result,
    link::on_engine,
    rows::{TaskRow, micros},
    schema::{stage, tasks},
    signals::{Callee, CancelSignal},
    transition,
    tx::Tx,
};
use crate::domain::{
    event::Change,
    executor::Executor,
    lease::LeaseToken,
    state::{Event, Next},
    task::TaskId,
};

#[derive(Clone, Copy, Debug)]
pub struct CancelRequest {
    pub id: TaskId,
    /// Ends a running attempt at once, instead of asking its executor to stop.
    pub force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelAnswer {
    /// The task is CANCELLED, now or already before.
    Cancelled,
    /// The task's executor is asked to stop.
    Requested,
    /// The task had ended in another way.
    Finished,
    NotFound,
}

pub(super) fn cancel(tx: &mut Tx<'_>, requests: &[&CancelRequest]) -> Result<Vec<CancelAnswer>> {
    requests.iter().map(|request| cancel_one(tx, **request)).collect()
}

fn cancel_one(tx: &mut Tx<'_>, request: CancelRequest) -> Result<CancelAnswer> {
    let Some(mut row) = by_id(tx, request.id)? else {
        return Ok(CancelAnswer::NotFound);
    };
    let event = if request.force { Event::CancelForced } else { Event::CancelRequested };
    let Ok(next) = transition::consider(tx, &row, event)? else {
        return Ok(CancelAnswer::Finished);
    };
    let signal = cancel_signal(tx, &row)?;
    let answer = match next {
        Next::Unchanged => return Ok(CancelAnswer::Cancelled),
        // The request was made before, and the executor was told.
        Next::Stopping if row.now.cancel_requested_at.is_some() => {
            return Ok(CancelAnswer::Requested);
        }
        Next::Stopping => {
            transition::stopping(tx, &mut row)?;
            CancelAnswer::Requested
        }
        Next::Cancelled
        | Next::Available
        | Next::Running
        | Next::Successful
        | Next::RetryLater
        | Next::Returned
        | Next::Failed => {
            transition::cancelled(tx, &mut row)?;
            CancelAnswer::Cancelled
        }
    };
    tx.changes.save(row)?;
    tx.effects.cancels.extend(signal);
    Ok(answer)
}

/// The signal that a running attempt has to stop, with the executor to tell.
pub(super) fn cancel_signal(tx: &Tx<'_>, row: &TaskRow) -> Result<Option<CancelSignal>> {
    let Some(token) = token_of(row) else {
        return Ok(None);
    };
    // A worker hears of it when it reports.
    let is_called = |executor: &&Arc<Executor>| !executor.registration.target.is_worker();
    let executor = row.executor_id().and_then(|id| tx.registry.get(id)).filter(is_called);
    let callee = match executor {
        Some(executor) => Some(Callee {
            task_id: transition::task_id(&row.id)?,
            attempt: super::rows::count(row.now.attempts),
            executor: Arc::clone(executor),
        }),
        None => None,
    };
    Ok(Some(CancelSignal { token, callee }))
}

/// The token of the row's lease.
pub(super) fn token_of(row: &TaskRow) -> Option<LeaseToken> {
    let secret = row.now.lease_secret.as_deref()?.try_into().ok()?;
    Some(LeaseToken { seq: row.seq, secret })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAnswer {
    Retried,
    /// The task runs, waits, or has succeeded.
    NotRetryable,
    /// Another live task has its unique key.
    UniqueKeyTaken,
    NotFound,
}

pub(super) fn retry(tx: &mut Tx<'_>, ids: &[&TaskId]) -> Result<Vec<RetryAnswer>> {
    ids.iter().map(|id| retry_one(tx, **id)).collect()
}

fn retry_one(tx: &mut Tx<'_>, id: TaskId) -> Result<RetryAnswer> {
    let Some(mut row) = by_id(tx, id)? else {
        return Ok(RetryAnswer::NotFound);
    };
    if transition::consider(tx, &row, Event::Retried)?.is_err() {
        return Ok(RetryAnswer::NotRetryable);
    }
    if unique_key_is_taken(tx, &row)? {
        return Ok(RetryAnswer::UniqueKeyTaken);
    }
    row.now.executor_id = tx.registry.route(&row.task_path).map(|id| id.0);
    row.now.attempts_before = row.now.attempts;
    row.now.due_at = micros(tx.now);
    row.now.finished_at = None;
    row.now.cancel_requested_at = None;
    row.now.progress_fraction = None;
    row.now.progress_message = None;
    let now = tx.now;
    transition::wait_from(tx, &mut row, now);
    if let Some(expires_at) = row.expires_at {
        tx.effects.sweep_by(super::rows::time(expires_at)?);
    }
    tx.tell(&mut row, &Change::Retried)?;
    tx.changes.save(row)?;
    Ok(RetryAnswer::Retried)
}

fn unique_key_is_taken(tx: &mut Tx<'_>, row: &TaskRow) -> Result<bool> {
    let Some(key) = &row.unique_key else {
        return Ok(false);
    };
    let live =
        tasks::table.filter(tasks::unique_key.eq(key)).filter(stage::is_live()).select(tasks::seq);
    let found: Option<i64> = on_engine!(&mut tx.link, c => live.first(c).optional())?;
    Ok(found.is_some())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteAnswer {
    Deleted,
    NotFinished,
    NotFound,
}

pub(super) fn delete(tx: &mut Tx<'_>, ids: &[&TaskId]) -> Result<Vec<DeleteAnswer>> {
    ids.iter()
        .map(|id| {
            let Some(mut row) = by_id(tx, **id)? else {
                return Ok(DeleteAnswer::NotFound);
            };
            if !row.stage()?.is_finished() {
                return Ok(DeleteAnswer::NotFinished);
            }
            // Inputs, results, errors, labels and logs go with it.
            let gone = diesel::delete(tasks::table.find(row.seq));
            on_engine!(&mut tx.link, c => gone.execute(c))?;
            tx.changes.forget(row.seq);
            tx.tell(&mut row, &Change::Deleted)?;
            Ok(DeleteAnswer::Deleted)
        })
        .collect()
}

/// The row of a task, locked. As a rule it was locked when the batch began, but the task may have
/// been enqueued by the same batch.
fn by_id(tx: &mut Tx<'_>, id: TaskId) -> Result<Option<TaskRow>> {
    let id = id.0.as_bytes();
    if tx.changes.row_by_id(id).is_none() {
        tx.changes.lock(&mut tx.link, &[], &[id.to_vec()])?;
    }
    Ok(tx.changes.row_by_id(id))
}
