//! Runs attempts on executors: `http` calls HTTP servers, `wasm` runs plugins in this process.
//!
//! [`Executors::execute`] returns the [`Answer`] of one attempt. It keeps no state of the attempt;
//! the caller (`dispatch/attempt.rs`) holds the lease, watches the deadline, and drops the future
//! if it gives up.

mod answer_room;
pub(crate) mod http;
mod journal;
mod returned;
mod wasm;

use std::sync::Arc;

use crate::domain::{
    Timestamp,
    attempt::Outcome,
    executor::{Executor, Target},
    lease::{Assignment, Inputs, LeaseToken},
    task::TaskId,
};

pub use answer_room::AnswerRoom;
pub use http::{HttpExecutor, HttpSettings};
pub use journal::{Journal, Said};
pub use wasm::WasmExecutor;

/// Runs attempts on all executors except workers, which ask for their tasks themselves.
pub struct Executors {
    pub http: HttpExecutor,
    pub wasm: Arc<WasmExecutor>,
}

impl Executors {
    /// Runs one attempt and returns the executor's answer. To give up, the caller drops the future:
    /// that closes the connection, or ends the plugin.
    pub async fn execute(&self, work: Work<'_>, now: Timestamp) -> Answer {
        match &work.executor.registration.target {
            Target::Http { .. } | Target::Worker => self.http.execute(work, now).await,
            Target::Wasm { .. } => self.wasm.execute(work, now).await,
        }
    }

    /// Tells the executor to stop an attempt. That may fail without harm: the store refuses reports
    /// of the attempt anyway.
    pub async fn cancel(&self, executor: &Executor, notice: CancelNotice, now: Timestamp) {
        match &executor.registration.target {
            Target::Http { .. } | Target::Worker => self.http.cancel(executor, notice, now).await,
            // Dropping the future of its attempt has ended it.
            Target::Wasm { .. } => {}
        }
    }
}

/// One attempt, with all that its executor needs.
pub struct Work<'a> {
    pub executor: &'a Executor,
    pub assignment: &'a Assignment,
    pub inputs: Inputs,
    /// Memory for the answer of a called executor.
    pub room: &'a AnswerRoom,
    /// Takes log lines and progress of a plugin while it runs.
    pub journal: Arc<Journal>,
}

/// The answer of an executor.
#[derive(Debug)]
pub enum Answer {
    /// The executor goes on working and reports through its lease.
    Accepted,
    Ended(Outcome),
}

/// Names an attempt that is to stop.
#[derive(Clone, Copy, Debug)]
pub struct CancelNotice {
    pub task_id: TaskId,
    pub token: LeaseToken,
    pub attempt: u32,
}

impl CancelNotice {
    /// A notice for the attempt of this assignment.
    pub fn of(assignment: &Assignment) -> Self {
        Self { task_id: assignment.task.id, token: assignment.token, attempt: assignment.attempt() }
    }
}
