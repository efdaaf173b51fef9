//! Keeps tasks and executors in SQLite or PostgreSQL.
//!
//! A write is a command to one writer thread. The writer commits many commands in one transaction
//! and answers each of them after the commit. A read takes a connection from a pool and sees one
//! snapshot of the database. A missing row is `None`, and an operation that came too late returns a
//! value that says so (such as [`LeaseLost`]). An [`Error`] means that the store could not do its
//! work.

mod asks;
mod attempt;
mod audit;
mod backup;
mod cached;
mod cells;
mod changes;
mod circuit;
mod claim;
mod command;
mod copy;
mod dialect;
mod ended;
mod enqueue;
mod error;
mod event_text;
mod events;
mod executor_row;
mod executors;
mod explain;
mod feed;
mod file;
mod flaws;
mod floors;
mod guard;
mod health;
mod history;
mod inspect;
mod lanes;
mod link;
mod list;
mod listen;
mod load;
mod log_room;
mod logs;
mod mend;
mod migrate;
mod open;
mod owner;
mod plugin_row;
mod plugins;
mod pool;
mod postgres;
mod prune;
mod queries;
mod queues;
mod reads;
mod registry;
mod room;
mod rows;
mod schema;
mod secrets;
mod signals;
mod sizes;
mod snapshots;
mod sockets;
mod stats;
mod steer;
mod sweep;
mod timekeeper;
mod tokens;
mod transition;
mod tx;
mod vacuum;
mod writer;
mod writes;

use std::{sync::Arc, thread::JoinHandle, time::Duration};

use tokio::sync::{Semaphore, mpsc};

pub use attempt::{Ended, FinishRequest, LeaseLost, RenewRequest};
pub use audit::{AuditPage, Note};
pub use backup::backup;
pub use claim::{ClaimRequest, Claimer, Claims};
pub use copy::{Copied, CopiedTable, CopyProgress, copy};
pub use enqueue::{EnqueueAnswer, EnqueueConflict, Enqueued};
pub use error::{Error, Misplaced, Result};
pub use events::EventChunk;
pub use executors::{ExecutorChange, NotRegistered, Registered};
pub use feed::{EventReader, Heard};
pub use flaws::Flaws;
pub use history::{TaskNews, TaskWatch};
pub use inspect::{Called, Inspection, Schema, exists, inspect, is_in_use};
pub use list::{PathFilter, Phase, TaskFilter, TaskPage};
pub use logs::LogPage;
pub use open::migrate;
pub use owner::{check_folder, check_owner};
pub use plugins::{ActivateAnswer, ActivateRequest, Installed, UninstallAnswer};
pub use postgres::UNSAID_POOLER;
pub use prune::Pruned;
pub use queues::{QueueChange, TooManyQueues};
pub use signals::{Callee, CancelSignal};
pub use snapshots::{Holder, Upkeep};
pub use stats::Stats;
pub use steer::{CancelAnswer, CancelRequest, DeleteAnswer, RetryAnswer};
pub use tokens::{
    AdminElsewhere, CreateTokenAnswer, CreateTokenRequest, RevokeTokenAnswer, RevokeTokenRequest,
    TokenTable,
};

use self::{
    asks::Asks,
    command::Command,
    feed::Feed,
    file::{DatabaseFile, FileLock},
    guard::Guard,
    health::Health,
    pool::Pool,
    signals::Signals,
};
use crate::{
    clock::Clock,
    domain::{Timestamp, attempt::RecordedFailure, json::JsonText, state::Stage, task::TaskId},
    entropy::Entropy,
    memory::Memory,
    metrics::Metrics,
    vital::Vital,
};

/// The store. Clones are cheap: they share one writer, one pool and one set of signals.
#[derive(Clone)]
pub struct Store {
    commands: mpsc::Sender<Command>,
    /// Permits for new tasks that wait for the writer, in KiB.
    room: Arc<Semaphore>,
    /// Permits for log lines on their way to the writer, in KiB.
    log_room: Arc<Semaphore>,
    pool: Pool,
    file: Arc<DatabaseFile>,
    health: Arc<Health>,
    signals: Arc<Signals>,
    feed: Arc<Feed>,
    idle_poll: Duration,
    /// Held while all tasks are counted, so that only one request at a time does it.
    counting: Arc<tokio::sync::Mutex<()>>,
    /// Which workers have asked this process for tasks, and when.
    asks: Arc<Asks>,
    memory: Arc<Memory>,
    clock: Arc<dyn Clock>,
}

/// The result of [`Store::open`]: the store, and parts that have one user each.
pub struct Opened {
    pub store: Store,
    /// Attempts that have to be stopped. The dispatcher receives them.
    pub cancels: mpsc::Receiver<CancelSignal>,
    pub closing: Closing,
    /// The tokens as they were at the start.
    pub tokens: TokenTable,
}

/// Waits for the last commit and for the end of the store's threads.
pub struct Closing {
    writer: JoinHandle<()>,
    /// Ends when the writer drops its sender; `None` without a connection for LISTEN.
    listener: Option<JoinHandle<()>>,
    /// Watches the SQLite file, or vacuums PostgreSQL. Ends when the writer drops its sender.
    keeper: JoinHandle<()>,
    guard: Arc<Guard>,
    _lock: Option<FileLock>,
}

impl Closing {
    /// Returns once every [`Store`] is dropped and all their commands are committed. An error means
    /// that a thread panicked, so that it is not certain that all was committed.
    pub fn wait(self) -> anyhow::Result<()> {
        // From here on an exchange with the database may take 5 seconds at most: a server that does
        // not answer must not keep this process from ending.
        self.guard.stop();
        let threads = [Some(self.writer), self.listener, Some(self.keeper)];
        // Join every thread, even if another one has panicked.
        let joined: Vec<_> = threads.into_iter().flatten().map(JoinHandle::join).collect();
        anyhow::ensure!(
            joined.iter().all(std::result::Result::is_ok),
            "a thread of the store panicked"
        );
        Ok(())
    }
}

/// The part of a task's record that changes while the task runs.
#[derive(Clone, Debug)]
pub struct TaskState {
    pub id: TaskId,
    pub stage: Stage,
    pub attempts: u32,
    pub progress: Option<crate::domain::attempt::Progress>,
    pub run_after: Option<Timestamp>,
    pub times: crate::domain::task::Times,
    pub lease: Option<crate::domain::task::LeaseTimes>,
}

/// How a task ended. `finished_at` is `None` if it has not ended yet.
#[derive(Clone, Debug)]
pub struct TaskEnd {
    pub id: TaskId,
    pub stage: Stage,
    pub return_value: Option<JsonText>,
    pub errors: Vec<RecordedFailure>,
    /// How many older errors were left out of `errors`, which is bounded.
    pub errors_dropped: u32,
    pub finished_at: Option<Timestamp>,
}

/// The parts of the process that the store uses.
pub struct Surroundings {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<Entropy>,
    pub memory: Arc<Memory>,
    pub metrics: Arc<Metrics>,
    pub vital: Vital,
}
