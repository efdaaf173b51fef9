//! The rules of tasks, executors, queues, plugins and tokens: pure types and functions without
//! input or output.
//!
//! Nothing here uses a database, a socket, a clock or a random number generator: times and random
//! numbers come in as values. Constructors check their input and return [`Invalid`]; transitions of
//! a task's state are in [`state::next`].

pub mod attempt;
pub mod circuit;
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

/// A value from outside that is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// The field, as the API names it.
    pub field: &'static str,
    /// Why it is refused, in words for the caller.
    pub reason: String,
}

impl Invalid {
    pub fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self { field, reason: reason.into() }
    }
}
