//! Runs attempts.

mod http;

use async_trait::async_trait;

use crate::domain::{
    Timestamp,
    attempt::Outcome,
    executor::Executor,
    lease::{Assignment, LeaseToken},
    task::TaskId,
};

pub use http::{HttpExecutor, HttpSettings};

/// Runs attempts of one kind of executor.
#[async_trait]
pub trait Execute: Send + Sync {
    /// Runs one attempt and returns the executor's answer. Whoever wants to give up drops the
    /// future, which closes the connection.
    async fn execute(&self, executor: &Executor, assignment: &Assignment, now: Timestamp)
    -> Answer;

    /// Tells the executor that an attempt is not wanted any more. Best effort: the attempt is
    /// fenced off whatever comes of it.
    async fn cancel(&self, executor: &Executor, notice: CancelNotice, now: Timestamp);
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
