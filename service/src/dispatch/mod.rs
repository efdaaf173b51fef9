//! Brings due tasks to the executors that this process calls or runs itself, and does the work that
//! is due at certain times. `dispatcher` claims tasks and runs each as an `attempt`, with its spans
//! in `trace`; `reaper` sweeps when tasks become due, expire or lose their lease; `pruner` deletes
//! old records.

mod attempt;
mod dispatcher;
mod pruner;
mod reaper;
mod trace;

pub use dispatcher::{Dispatcher, Drain, Seen};
pub use pruner::{Keep, prune};
pub use reaper::reap;
