//! Why a task is where it is.

use super::Timestamp;

/// Something of which a process has none left for another call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Attempts at once.
    Attempts,
    /// Places for runs of plugins, by their number or their memory.
    Places,
    /// Memory for what calls carry.
    Memory,
}

/// Why a waiting or running task is where it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// Its row holds what cannot be read, so it fails when its turn comes.
    Unreadable {
        what: String,
    },
    /// The row of its executor does.
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
    /// `holders`: the first few of the tasks that run.
    QueueFull {
        queue_name: String,
        concurrency: u32,
        holders: Vec<String>,
    },
    /// The process that was asked cannot call any executor for it; another one may.
    ProcessFull {
        lack: Lack,
    },
    /// No worker has asked for tasks of this queue lately, or none at all. Some may be busy: so many
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
