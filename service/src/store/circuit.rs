//! What the end of an attempt says about its executor.

use diesel::prelude::*;

use super::{
    dialect,
    error::Result,
    link::on_engine,
    registry,
    rows::{TaskRow, micros, number},
    schema::executors,
    tx::Tx,
};
use crate::domain::{
    attempt::{FailureKind, Outcome},
    executor::{Circuit, Executor, ExecutorId},
};

/// Opens the circuit after a failed delivery, closes it when the executor was reached.
pub(super) fn learn(tx: &mut Tx<'_>, row: &TaskRow, outcome: &Outcome) -> Result<()> {
    let Some(id) = row.executor_id() else {
        return Ok(());
    };
    match outcome {
        Outcome::Undelivered { reason, retry_after } => {
            let Some(executor) = tx.registry.get(id) else {
                return Ok(());
            };
            let started_at = super::rows::times(row.now.last_attempted_at)?.unwrap_or(tx.now);
            let circuit = executor.circuit.after_failure(tx.now, started_at, reason, *retry_after);
            store(tx, id, &circuit)
        }
        Outcome::Succeeded(_) => reached(tx, id),
        Outcome::Failed(failure) => match failure.kind {
            FailureKind::Exception | FailureKind::Rejected | FailureKind::Trap => reached(tx, id),
            FailureKind::Timeout
            | FailureKind::Lost
            | FailureKind::Expired
            | FailureKind::Cancelled
            | FailureKind::Unreachable => Ok(()),
        },
        Outcome::HandedBack | Outcome::Cancelled => Ok(()),
    }
}

/// The executor answered: whatever was wrong with reaching it is over.
pub(super) fn reached(tx: &mut Tx<'_>, id: ExecutorId) -> Result<()> {
    match tx.registry.get(id) {
        Some(executor) if executor.circuit != Circuit::default() => {
            tx.effects.work = true;
            store(tx, id, &Circuit::default())
        }
        _ => Ok(()),
    }
}

/// A task goes out to see whether the executor answers again.
pub(super) fn probe(tx: &mut Tx<'_>, executor: &Executor) -> Result<()> {
    store(tx, executor.id, &executor.circuit.after_probe(tx.now))
}

fn store(tx: &mut Tx<'_>, id: ExecutorId, circuit: &Circuit) -> Result<()> {
    if !dialect::lock_executor(&mut tx.link, id.0)? {
        return Ok(());
    }
    let change = diesel::update(executors::table.find(id.0)).set((
        executors::failures.eq(number(circuit.failures)),
        executors::failed_at.eq(circuit.failed_at.map(micros)),
        executors::held_until.eq(circuit.held_until.map(micros)),
        executors::hold_reason.eq(&circuit.reason),
    ));
    on_engine!(&mut tx.link, c => change.execute(c))?;
    if let Some(until) = circuit.held_until {
        tx.effects.sweep_by(until);
    }
    registry::changed(&mut tx.link, false)?;
    tx.registry.forget();
    tx.registry.refresh(&mut tx.link)
}
