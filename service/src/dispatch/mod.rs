//! Brings due tasks to their executors, and does what time demands.

mod attempt;
mod dispatcher;
mod pruner;
mod reaper;
mod trace;

pub use dispatcher::{Dispatcher, Drain, Seen};
pub use pruner::{Keep, prune};
pub use reaper::reap;
