//! Reports of whoever holds a lease.

use diesel::prelude::*;

use super::{
    circuit, dialect,
    error::Result,
    link::on_engine,
    logs,
    rows::{TaskRow, micros, time},
    schema::tasks,
    transition,
    tx::Tx,
};
use crate::{
    clock::later,
    domain::{
        attempt::{Outcome, Progress},
        lease::{LeaseToken, Renewal},
        limits::CANCEL_GRACE,
        state::Stage,
        task::TaskId,
    },
};
pub use logs::NewLogLine;

/// The attempt is over; whoever still worked on it has to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseLost;

/// A heartbeat.
#[derive(Clone, Debug)]
pub struct RenewRequest {
    pub token: LeaseToken,
    pub progress: Option<Progress>,
    pub logs: Vec<NewLogLine>,
}

/// The end of an attempt.
#[derive(Clone, Debug)]
pub struct FinishRequest {
    pub token: LeaseToken,
    pub outcome: Outcome,
}

/// The row whose lease this is, locked, if the lease still holds.
fn held(tx: &mut Tx<'_>, token: LeaseToken) -> Result<Option<TaskRow>> {
    let row = dialect::lock_task(&mut tx.link, token.seq)?;
    Ok(row.filter(|row| {
        row.now.stage == Stage::Running as i16
            && row.now.lease_secret.as_deref() == Some(&token.secret)
            && row.now.lease_expires_at.is_some_and(|at| micros(tx.now) < at)
    }))
}

pub(super) fn renew(
    tx: &mut Tx<'_>,
    requests: &[&RenewRequest],
) -> Result<Vec<std::result::Result<Renewal, LeaseLost>>> {
    requests
        .iter()
        .map(|request| match held(tx, request.token)? {
            Some(row) => renew_one(tx, row, request).map(Ok),
            None => Ok(Err(LeaseLost)),
        })
        .collect()
}

fn renew_one(tx: &mut Tx<'_>, mut row: TaskRow, request: &RenewRequest) -> Result<Renewal> {
    if let Some(progress) = &request.progress {
        row.now.progress_fraction = progress.fraction;
        row.now.progress_message.clone_from(&progress.message);
    }
    extend(tx, &mut row)?;
    let expires_at = row.now.lease_expires_at.unwrap_or_else(|| micros(tx.now));
    let change = diesel::update(tasks::table.find(row.seq)).set((
        tasks::lease_renewed_at.eq(row.now.lease_renewed_at),
        tasks::lease_expires_at.eq(row.now.lease_expires_at),
        tasks::progress_fraction.eq(row.now.progress_fraction),
        tasks::progress_message.eq(&row.now.progress_message),
    ));
    on_engine!(&mut tx.link, c => change.execute(c))?;
    logs::append(tx, &row, &request.logs)?;
    Ok(Renewal {
        expires_at: time(expires_at)?,
        cancel_requested: row.now.cancel_requested_at.is_some(),
    })
}

/// Moves the end of the lease: a full lease from now, but not past the attempt's deadline, nor
/// past the grace of a cancelled one.
fn extend(tx: &Tx<'_>, row: &mut TaskRow) -> Result<()> {
    let executor = row.executor_id().and_then(|id| tx.registry.get(id));
    let lease = match executor {
        Some(executor) => executor.registration.lease,
        // Deregistered meanwhile; what runs may go on as before.
        None => std::time::Duration::from_secs(u64::from(
            crate::domain::executor::LEASE_SECONDS_DEFAULT,
        )),
    };
    let mut expires_at = micros(later(tx.now, lease));
    if let Some(deadline) = row.now.deadline_at {
        expires_at = expires_at.min(deadline);
    }
    if let Some(requested_at) = row.now.cancel_requested_at {
        expires_at = expires_at.min(micros(later(time(requested_at)?, CANCEL_GRACE)));
    }
    row.now.lease_renewed_at = Some(micros(tx.now));
    row.now.lease_expires_at = Some(expires_at);
    Ok(())
}

/// The executor answered 202: from now on it reports by itself.
pub(super) fn detach(
    tx: &mut Tx<'_>,
    tokens: &[&LeaseToken],
) -> Result<Vec<std::result::Result<(), LeaseLost>>> {
    tokens
        .iter()
        .map(|token| {
            let Some(mut row) = held(tx, **token)? else {
                return Ok(Err(LeaseLost));
            };
            row.now.detached = true;
            extend(tx, &mut row)?;
            if let Some(id) = row.executor_id() {
                circuit::reached(tx, id)?;
            }
            transition::save(tx, &row, Stage::Running)?;
            Ok(Ok(()))
        })
        .collect()
}

pub(super) fn finish(
    tx: &mut Tx<'_>,
    requests: &[&FinishRequest],
) -> Result<Vec<std::result::Result<TaskId, LeaseLost>>> {
    requests
        .iter()
        .map(|request| {
            let Some(row) = held(tx, request.token)? else {
                return Ok(Err(LeaseLost));
            };
            let id = transition::task_id(&row)?;
            transition::end_attempt(tx, row, &request.outcome)?;
            Ok(Ok(id))
        })
        .collect()
}
