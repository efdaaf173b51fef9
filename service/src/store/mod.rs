//! Keeps tasks and executors in SQLite or PostgreSQL.
//!
//! Writes are commands to one writer, which commits many of them together and answers each
//! after the commit. Reads take a connection from a pool and see one snapshot. A missing row is
//! `None`, a lost race is a value; an [`Error`] means that the store could not do its work.

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
pub use feed::{EventReader, Heard, TaskWatch};
pub use flaws::Flaws;
pub use history::TaskNews;
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

/// The store; clones share it.
#[derive(Clone)]
pub struct Store {
    commands: mpsc::Sender<Command>,
    /// Room for new tasks that wait for the writer, in KiB.
    room: Arc<Semaphore>,
    /// Room for log lines on their way to the writer, in KiB.
    log_room: Arc<Semaphore>,
    pool: Pool,
    file: Arc<DatabaseFile>,
    health: Arc<Health>,
    signals: Arc<Signals>,
    feed: Arc<Feed>,
    idle_poll: Duration,
    /// Taken by who counts everything.
    counting: Arc<tokio::sync::Mutex<()>>,
    /// Which workers have asked this process.
    asks: Arc<Asks>,
    memory: Arc<Memory>,
    clock: Arc<dyn Clock>,
}

/// What only one part of the program gets.
pub struct Opened {
    pub store: Store,
    /// For the dispatcher: attempts that are to be stopped.
    pub cancels: mpsc::Receiver<CancelSignal>,
    pub closing: Closing,
    /// As they were at the start.
    pub tokens: TokenTable,
}

/// Waits for the last commit.
pub struct Closing {
    writer: JoinHandle<()>,
    /// These end when it does.
    listener: Option<JoinHandle<()>>,
    /// Looks after the database beside the writer.
    keeper: JoinHandle<()>,
    guard: Arc<Guard>,
    _lock: Option<FileLock>,
}

impl Closing {
    /// Returns once every [`Store`] is gone and what they sent is committed; an error if that cannot
    /// be said.
    pub fn wait(self) -> anyhow::Result<()> {
        self.guard.stop();
        let threads = [Some(self.writer), self.listener, Some(self.keeper)];
        // All of them, whatever became of the others.
        let joined: Vec<_> = threads.into_iter().flatten().map(JoinHandle::join).collect();
        anyhow::ensure!(
            joined.iter().all(std::result::Result::is_ok),
            "a thread of the store panicked"
        );
        Ok(())
    }
}

/// The part of the record that changes while a task runs.
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

/// How a task ended, if it has.
#[derive(Clone, Debug)]
pub struct TaskEnd {
    pub id: TaskId,
    pub stage: Stage,
    pub return_value: Option<JsonText>,
    pub errors: Vec<RecordedFailure>,
    /// How many were left out before them.
    pub errors_dropped: u32,
    pub finished_at: Option<Timestamp>,
}

/// What the store is given to work with.
pub struct Surroundings {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<Entropy>,
    pub memory: Arc<Memory>,
    pub metrics: Arc<Metrics>,
    pub vital: Vital,
}
