//! What the end of an attempt says about its executor.

use super::{
    error::Result,
    rows::{TaskRow, times},
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
            if let Some(executor) = tx.registry.get(id) {
                let started_at = times(row.now.last_attempted_at)?.unwrap_or(tx.now);
                let circuit =
                    executor.circuit.after_failure(tx.now, started_at, reason, *retry_after);
                set(tx, id, circuit);
            }
        }
        Outcome::Succeeded(_) => reached(tx, id),
        Outcome::Failed(failure) => match failure.kind {
            FailureKind::Exception | FailureKind::Rejected | FailureKind::Trap => reached(tx, id),
            FailureKind::Timeout
            | FailureKind::Lost
            | FailureKind::Expired
            | FailureKind::Cancelled
            | FailureKind::Unreachable => {}
        },
        Outcome::HandedBack | Outcome::Cancelled => {}
    }
    Ok(())
}

/// The executor answered: whatever was wrong with reaching it is over.
pub(super) fn reached(tx: &mut Tx<'_>, id: ExecutorId) {
    if tx.registry.get(id).is_some_and(|executor| executor.circuit != Circuit::default()) {
        tx.effects.work.dispatcher = true;
        set(tx, id, Circuit::default());
    }
}

/// A task goes out to see whether the executor answers again.
pub(super) fn probe(tx: &mut Tx<'_>, executor: &Executor) {
    set(tx, executor.id, executor.circuit.after_probe(tx.now));
}

fn set(tx: &mut Tx<'_>, id: ExecutorId, circuit: Circuit) {
    if let Some(until) = circuit.held_until {
        tx.effects.sweep_by(until);
    }
    tx.registry.learn(id, circuit);
}
