//! Runs attempts.

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

/// Runs attempts of every kind of executor that does not ask for its tasks.
pub struct Executors {
    pub http: HttpExecutor,
    pub wasm: Arc<WasmExecutor>,
}

impl Executors {
    /// Runs one attempt and returns the executor's answer. Whoever wants to give up drops the
    /// future, which closes the connection and ends the plugin.
    pub async fn execute(&self, work: Work<'_>, now: Timestamp) -> Answer {
        match &work.executor.registration.target {
            Target::Http { .. } | Target::Worker => self.http.execute(work, now).await,
            Target::Wasm { .. } => self.wasm.execute(work, now).await,
        }
    }

    /// Tells the executor that an attempt is not wanted any more. Best effort: the attempt is
    /// fenced off whatever comes of it.
    pub async fn cancel(&self, executor: &Executor, notice: CancelNotice, now: Timestamp) {
        match &executor.registration.target {
            Target::Http { .. } | Target::Worker => self.http.cancel(executor, notice, now).await,
            // Ended with the future of its attempt.
            Target::Wasm { .. } => {}
        }
    }
}

/// One attempt, as its executor gets it.
pub struct Work<'a> {
    pub executor: &'a Executor,
    pub assignment: &'a Assignment,
    pub inputs: Inputs,
    /// For what a called executor answers.
    pub room: &'a AnswerRoom,
    /// For what a plugin says meanwhile.
    pub journal: Arc<Journal>,
}

/// What an executor answered.
#[derive(Debug)]
pub enum Answer {
    /// It goes on by itself and reports through its lease.
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
    /// For the attempt that was assigned.
    pub fn of(assignment: &Assignment) -> Self {
        Self { task_id: assignment.task.id, token: assignment.token, attempt: assignment.attempt() }
    }
}
