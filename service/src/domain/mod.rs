//! What a task is and what may happen to it, without any input or output.
//!
//! Nothing here knows a database, a socket, a clock or a random number: those come in as values.

pub mod attempt;
pub mod event;
pub mod executor;
pub mod grants;
pub mod history;
pub mod json;
pub mod lease;
pub mod limits;
pub mod log;
pub mod names;
pub mod places;
pub mod plugin;
pub mod queue;
pub mod reach;
pub mod reason;
pub mod retention;
pub mod retry;
pub mod route;
pub mod state;
pub mod task;
pub mod token;

use thiserror::Error;

/// An instant in UTC; the store keeps microseconds.
pub type Timestamp = jiff::Timestamp;

/// A value that cannot be accepted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// The field, as the API names it.
    pub field: &'static str,
    /// Why not, for the caller.
    pub reason: String,
}

impl Invalid {
    pub fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self { field, reason: reason.into() }
    }
}
