//! Why a task is in its present state, as `explain` reports it.

use super::Timestamp;

/// Why a process cannot begin another call: it has none of this left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Permits: the process runs as many attempts as it may.
    Attempts,
    /// Places for runs of plugins, limited by number and by memory.
    Places,
    /// Memory for the inputs of tasks.
    Memory,
}

/// Why a waiting or running task is in its present state.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// The task's row holds a value that cannot be read, so the task fails when its turn comes.
    Unreadable {
        what: String,
    },
    /// The row of the task's executor holds a value that cannot be read.
    UnreadableExecutor,
    Finished,
    Leased {
        executor: Option<String>,
        renewed_at: Timestamp,
        expires_at: Timestamp,
    },
    CancelRequested {
        until: Timestamp,
    },
    WaitsForTime {
        until: Timestamp,
    },
    Unrouted {
        task_path: String,
    },
    ExecutorPaused {
        executor: String,
    },
    ExecutorHeld {
        executor: String,
        until: Timestamp,
        why: String,
    },
    ExecutorFull {
        executor: String,
        concurrency: u32,
    },
    QueuePaused {
        queue_name: String,
    },
    /// `holders` are the first few of the tasks that run.
    QueueFull {
        queue_name: String,
        concurrency: u32,
        holders: Vec<String>,
    },
    /// The process that was asked has no room for another call; another process may have some.
    ProcessFull {
        lack: Lack,
    },
    /// No worker has asked for tasks of this queue lately, or ever. Workers may be busy: `running`
    /// tasks of the executor run.
    NoWorker {
        executor: String,
        queue_name: String,
        asked_at: Option<Timestamp>,
        running: u32,
    },
    BehindOthers {
        executor: String,
        count: u32,
    },
    AboutToStart,
}
