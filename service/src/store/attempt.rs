//! The reports of a lease's holder: a heartbeat, that it goes on by itself, or the end of its
//! attempt. Each report is checked against the lease in the row, so a holder of an old lease
//! changes nothing.

use super::{
    circuit,
    error::Result,
    logs,
    rows::{TaskRow, micros, time},
    transition,
    tx::Tx,
};
use crate::{
    clock::later,
    domain::{
        attempt::{Outcome, Progress},
        event::Change,
        executor::LEASE_DEFAULT,
        lease::{LeaseToken, Renewal},
        limits::CANCEL_GRACE,
        log::NewLog,
        state::Stage,
        task::TaskId,
    },
};

/// The lease does not hold any more: its attempt is over, and its holder has to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseLost;

/// A heartbeat, with the progress and the log lines since the last one.
#[derive(Clone, Debug)]
pub struct RenewRequest {
    pub token: LeaseToken,
    pub progress: Option<Progress>,
    pub log: NewLog,
}

/// The end of an attempt.
#[derive(Clone, Debug)]
pub struct FinishRequest {
    pub token: LeaseToken,
    pub outcome: Outcome,
}

/// The task of an ended attempt, and the stage that it is at now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub id: TaskId,
    pub stage: Stage,
}

/// The row that the token's lease belongs to, if the lease still holds: the row runs, it has this
/// secret, and the lease has not ended.
fn held(tx: &Tx<'_>, token: LeaseToken) -> Option<TaskRow> {
    tx.changes.row(token.seq).filter(|row| {
        row.now.stage == Stage::Running as i16
            && row.now.lease_secret.as_deref() == Some(&token.secret)
            && row.now.lease_expires_at.is_some_and(|at| micros(tx.now) < at)
    })
}

pub(super) fn renew(
    tx: &mut Tx<'_>,
    requests: &[&RenewRequest],
) -> Result<Vec<std::result::Result<Renewal, LeaseLost>>> {
    requests
        .iter()
        .map(|request| match held(tx, request.token) {
            Some(row) => renew_one(tx, row, request).map(Ok),
            None => Ok(Err(LeaseLost)),
        })
        .collect()
}

fn renew_one(tx: &mut Tx<'_>, mut row: TaskRow, request: &RenewRequest) -> Result<Renewal> {
    if let Some(progress) = &request.progress {
        row.now.progress_fraction = progress.fraction;
        row.now.progress_message.clone_from(&progress.message);
        tx.tell(&mut row, &Change::Progress(progress.clone()))?;
    }
    extend(tx, &mut row)?;
    let expires_at = row.now.lease_expires_at.unwrap_or_else(|| micros(tx.now));
    let lines = logs::append(tx, &row, &request.log)?;
    if !lines.is_empty() {
        tx.tell(&mut row, &Change::Log(lines))?;
    }
    let cancel_requested = row.now.cancel_requested_at.is_some();
    tx.changes.save(row)?;
    Ok(Renewal { expires_at: time(expires_at)?, cancel_requested })
}

/// Sets the end of the lease: a full lease from now, but not after the attempt's deadline, nor
/// after the grace of a cancelled attempt.
fn extend(tx: &Tx<'_>, row: &mut TaskRow) -> Result<()> {
    let executor = row.executor_id().and_then(|id| tx.registry.get(id));
    let lease = match executor {
        Some(executor) => executor.registration.lease,
        // The executor was deregistered meanwhile; its attempts go on as before.
        None => LEASE_DEFAULT,
    };
    let mut expires_at = micros(later(tx.now, lease));
    if let Some(deadline) = row.now.deadline_at {
        // A lease that already ends after the deadline is not shortened: the timekeeper gives such
        // a lease to a holder that could not report in time.
        expires_at =
            expires_at.min(row.now.lease_expires_at.map_or(deadline, |at| at.max(deadline)));
    }
    if let Some(requested_at) = row.now.cancel_requested_at {
        expires_at = expires_at.min(micros(later(time(requested_at)?, CANCEL_GRACE)));
    }
    row.now.lease_renewed_at = Some(micros(tx.now));
    row.now.lease_expires_at = Some(expires_at);
    Ok(())
}

/// Marks attempts as detached: the executor answered 202 and reports by itself from now on.
pub(super) fn detach(
    tx: &mut Tx<'_>,
    tokens: &[&LeaseToken],
) -> Result<Vec<std::result::Result<(), LeaseLost>>> {
    tokens
        .iter()
        .map(|token| {
            let Some(mut row) = held(tx, **token) else {
                return Ok(Err(LeaseLost));
            };
            row.now.detached = true;
            extend(tx, &mut row)?;
            if let Some(id) = row.executor_id() {
                circuit::reached(tx, id);
            }
            tx.changes.save(row)?;
            Ok(Ok(()))
        })
        .collect()
}

pub(super) fn finish(
    tx: &mut Tx<'_>,
    requests: &[&FinishRequest],
) -> Result<Vec<std::result::Result<Ended, LeaseLost>>> {
    requests
        .iter()
        .map(|request| {
            let Some(row) = held(tx, request.token) else {
                return Ok(Err(LeaseLost));
            };
            let id = transition::task_id(&row.id)?;
            let stage = transition::end_attempt(tx, row, &request.outcome)?;
            Ok(Ok(Ended { id, stage }))
        })
        .collect()
}
