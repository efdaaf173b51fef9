//! Learns from the end of an attempt whether its executor can be reached. A failed delivery opens
//! the executor's circuit, so that it is left alone for a while; an answer closes it.

use std::sync::Arc;

use super::{
    error::Result,
    rows::{TaskRow, times},
    tx::Tx,
};
use crate::domain::{
    attempt::{FailureKind, Outcome},
    circuit::Circuit,
    executor::{Executor, ExecutorId},
};

/// How many deliveries fail in a row before the log says so. A single one may be a restart, or an
/// executor that says when to come again.
const SAID_FROM: u32 = 2;

/// Deliveries to an executor begin to fail, or succeed again. It is logged after the commit.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    executor: String,
    /// Why they fail; `None` if they succeed again.
    reason: Option<String>,
}

impl Turn {
    pub(super) fn log(&self) {
        let executor = self.executor.as_str();
        if let Some(reason) = &self.reason {
            tracing::warn!(
                executor.name = executor,
                reason,
                "deliveries to an executor fail; its tasks wait, and it is tried again"
            );
        } else {
            tracing::info!(executor.name = executor, "an executor can be reached again");
        }
    }
}

/// Opens the circuit after a failed delivery, and closes it when the executor was reached.
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
                if executor.circuit.failures < SAID_FROM && circuit.failures >= SAID_FROM {
                    let executor = executor.registration.name.to_string();
                    tx.effects.turns.push(Turn { executor, reason: Some(reason.clone()) });
                }
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

/// Closes the circuit of an executor that has answered.
pub(super) fn reached(tx: &mut Tx<'_>, id: ExecutorId) {
    let is_open = |executor: &&Arc<Executor>| executor.circuit != Circuit::default();
    if let Some(executor) = tx.registry.get(id).filter(is_open) {
        if executor.circuit.failures >= SAID_FROM {
            let executor = executor.registration.name.to_string();
            tx.effects.turns.push(Turn { executor, reason: None });
        }
        tx.effects.work.dispatcher = true;
        set(tx, id, Circuit::default());
    }
}

/// Notes that one task is sent to an executor to find out whether it answers again.
pub(super) fn probe(tx: &mut Tx<'_>, executor: &Executor) {
    set(tx, executor.id, executor.circuit.after_probe(tx.now));
}

fn set(tx: &mut Tx<'_>, id: ExecutorId, circuit: Circuit) {
    // The sweep wakes the dispatcher when the executor may be tried again.
    if let Some(until) = circuit.held_until {
        tx.effects.sweep_by(until);
    }
    tx.registry.learn(id, circuit);
}
