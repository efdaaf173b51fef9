//! Brings due tasks to their executors, and does what time demands.

mod attempt;
mod dispatcher;
mod reaper;

pub use dispatcher::{Dispatcher, Drain};
pub use reaper::reap;
