//! Keeps tasks and executors in SQLite or PostgreSQL.
//!
//! Writes are commands to one writer, which commits many of them together and answers each
//! after the commit. Reads take a connection from a pool and see one snapshot. A missing row is
//! `None`, a lost race is a value; an [`Error`] means that the store could not do its work.

mod attempt;
mod audit;
mod backup;
mod cached;
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
mod guard;
mod health;
mod history;
mod inspect;
mod lanes;
mod link;
mod list;
mod listen;
mod logs;
mod migrate;
mod plugin_row;
mod plugins;
mod pool;
mod postgres;
mod prune;
mod queries;
mod queues;
mod reads;
mod registry;
mod rows;
mod schema;
mod secrets;
mod signals;
mod sockets;
mod stats;
mod steer;
mod sweep;
mod tokens;
mod transition;
mod tx;
mod vacuum;
mod writer;
mod writes;

use std::{
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context;
use tokio::sync::{Semaphore, mpsc};

pub use attempt::{Ended, FinishRequest, LeaseLost, NewLogLine, RenewRequest};
pub use audit::{AuditPage, Note};
pub use backup::backup;
pub use claim::{ClaimRequest, Claimer};
pub use copy::{Copied, CopiedTable, CopyProgress, copy};
pub use enqueue::{EnqueueAnswer, EnqueueConflict, Enqueued};
pub use error::{Error, Result};
pub use events::EventChunk;
pub use executors::{NoSuchPlugin, Registered};
pub use feed::{EventReader, Heard, TaskWatch};
pub use history::TaskNews;
pub use inspect::{Called, Inspection, Schema, exists, inspect};
pub use list::{PathFilter, Phase, TaskFilter, TaskPage};
pub use logs::LogPage;
pub use plugins::{ActivateAnswer, ActivateRequest, Installed, UninstallAnswer};
pub use postgres::UNSAID_POOLER;
pub use prune::Pruned;
pub use queues::QueueChange;
pub use signals::{Callee, CancelSignal};
pub use stats::Stats;
pub use steer::{CancelAnswer, CancelRequest, DeleteAnswer, RetryAnswer};
pub use tokens::{
    AdminElsewhere, CreateTokenAnswer, CreateTokenRequest, RevokeTokenAnswer, RevokeTokenRequest,
    TokenTable,
};

use self::{
    command::Command,
    feed::Feed,
    guard::Guard,
    health::{Health, Reconnect},
    link::{Connection, Link},
    listen::Listener,
    pool::{FileLock, Pool},
    registry::Registry,
    signals::Signals,
    vacuum::Vacuum,
    writer::Writer,
};
use crate::{
    clock::Clock,
    config::{Database, DatabaseUrl},
    domain::{Timestamp, attempt::RecordedFailure, json::JsonText, state::Stage, task::TaskId},
    entropy::Entropy,
    metrics::Metrics,
    vault::Vault,
};

/// The store; clones share it.
#[derive(Clone)]
pub struct Store {
    commands: mpsc::Sender<Command>,
    /// Room for new tasks that wait for the writer, in KiB.
    room: Arc<Semaphore>,
    pool: Pool,
    health: Arc<Health>,
    signals: Arc<Signals>,
    feed: Arc<Feed>,
    /// How often to look by oneself for what nobody told.
    polls: Polls,
    /// Taken by who counts everything.
    counting: Arc<tokio::sync::Mutex<()>>,
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
    listener: Option<JoinHandle<()>>,
    /// Dropped to end it.
    vacuum: Option<(SyncSender<()>, JoinHandle<()>)>,
    guard: Arc<Guard>,
    _lock: Option<FileLock>,
}

impl Closing {
    /// Returns once every [`Store`] is gone and what they sent is committed.
    pub fn wait(self) {
        self.guard.stop();
        if self.writer.join().is_err() {
            tracing::error!("the writer panicked");
        }
        if self.listener.is_some_and(|listener| listener.join().is_err()) {
            tracing::error!("the listener panicked");
        }
        if let Some((closing, vacuum)) = self.vacuum {
            drop(closing);
            if vacuum.join().is_err() {
                tracing::error!("the vacuum panicked");
            }
        }
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
    pub finished_at: Option<Timestamp>,
}

/// How often to look by oneself for what nobody told.
#[derive(Clone, Copy, Debug)]
struct Polls {
    /// An idle worker, for tasks.
    idle: Duration,
    /// The sweep, for anything.
    sweep: Duration,
}

impl Polls {
    const OFTEN: Duration = Duration::from_secs(1);

    /// Other processes may bring things about, and may not be able to say so.
    fn new(shared: bool, listening: bool) -> Self {
        Self {
            idle: if shared && !listening { Self::OFTEN } else { Duration::from_secs(5) },
            sweep: if shared { Self::OFTEN } else { Duration::from_secs(10) },
        }
    }
}

/// What the store is given to work with.
pub struct Surroundings {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<Entropy>,
    pub metrics: Arc<Metrics>,
}

/// Brings the schema up to date without opening the store.
pub fn migrate(database: &Database) -> anyhow::Result<Vec<String>> {
    let _lock = FileLock::take(&database.url)?;
    let guard = Guard::of(&database.url)?;
    bring_up_to_date(database, &guard, &mut pool::open_writer(database, &guard)?)
}

/// PostgreSQL's writer is not waited for as long as a migration may take.
fn bring_up_to_date(
    database: &Database,
    guard: &Guard,
    writer: &mut Connection,
) -> anyhow::Result<Vec<String>> {
    match writer {
        Connection::Sqlite(_) => migrate::run(writer),
        Connection::Postgres(_) => migrate::run(&mut pool::open_sweeper(database, guard)?),
    }
}

impl Store {
    /// Opens the database, brings its schema up to date and starts the writer.
    pub fn open(
        database: &Database,
        deliveries_max: u32,
        surroundings: Surroundings,
        vault: &Vault,
    ) -> anyhow::Result<Opened> {
        let Surroundings { clock, entropy, metrics } = surroundings;
        let lock = FileLock::take(&database.url)?;
        let guard = Guard::of(&database.url)?;
        let mut connection = pool::open_writer(database, &guard)?;
        if inspect::has_unsaid_pooler(database, &guard)? {
            tracing::warn!("{}", postgres::UNSAID_POOLER);
        }
        bring_up_to_date(database, &guard, &mut connection)?;
        secrets::renew(&mut connection, vault)?;
        if lock.is_some() {
            // Nobody else has the file, so whoever ran these in a request is dead.
            connection
                .transaction(|link| abandon_requests(link, clock.now()))
                .map_err(anyhow::Error::from)
                .context("cannot end the attempts of the process before")?;
        }
        let tokens = connection
            .transaction(|mut link| tokens::load(&mut link))
            .map_err(anyhow::Error::from)
            .context("cannot read the tokens")?;
        let pool = Pool::open(database, &guard)?;
        let (signals, cancels) = Signals::new();
        let (commands, receiver) = mpsc::channel(writer::QUEUE_COMMANDS_MAX);
        let (outbox, letters) = sync_channel(listen::OUTBOX_MAX);
        let listener = database.listen_url.clone().map(|url| {
            let guard = Arc::clone(&guard);
            let listener = Listener {
                connect: Box::new(move || pool::open_listener(&url, &guard)),
                entropy: Arc::clone(&entropy),
                signals: Arc::clone(&signals),
                outbox: letters,
                name: entropy.uuid().simple().to_string(),
            };
            thread::Builder::new().name("store-listener".to_owned()).spawn(move || listener.run())
        });
        let vacuum = match database.url {
            DatabaseUrl::Sqlite(_) => None,
            DatabaseUrl::Postgres(_) => Some(start_vacuum(database.clone(), Arc::clone(&guard))?),
        };
        let health = Arc::new(Health::new());
        let reopened = (database.clone(), Arc::clone(&guard));
        let writer = Writer {
            connection: Some(connection),
            connect: Box::new(move || pool::open_writer(&reopened.0, &reopened.1)),
            reconnect: Reconnect::default(),
            health: Arc::clone(&health),
            clock: Arc::clone(&clock),
            entropy,
            signals: Arc::clone(&signals),
            outbox: listener.is_some().then_some(outbox),
            registry: Registry::empty(),
            deliveries_max,
            metrics,
        };
        let writer = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(receiver))?;
        let listener = listener.transpose()?;
        let room = Arc::new(Semaphore::new(writer::QUEUE_KIB_MAX));
        let polls = Polls::new(lock.is_none(), listener.is_some());
        let counting = Arc::default();
        let feed = Arc::new(Feed::new());
        let store = Self { commands, room, pool, health, signals, feed, polls, counting, clock };
        Ok(Opened {
            store,
            cancels,
            closing: Closing { writer, listener, vacuum, guard, _lock: lock },
            tokens,
        })
    }
}

fn start_vacuum(
    database: Database,
    guard: Arc<Guard>,
) -> std::io::Result<(SyncSender<()>, JoinHandle<()>)> {
    let (closing, closed) = sync_channel(1);
    let vacuum =
        Vacuum { connect: Box::new(move || pool::open_sweeper(&database, &guard)), closed };
    let thread =
        thread::Builder::new().name("store-vacuum".to_owned()).spawn(move || vacuum.run())?;
    Ok((closing, thread))
}

/// Lets the leases end now that nobody renews any more.
fn abandon_requests(link: Link<'_>, now: Timestamp) -> Result<()> {
    use diesel::prelude::*;
    use schema::{stage, tasks};
    let mut link = link;
    let abandoned =
        diesel::update(tasks::table.filter(stage::is_running())).filter(tasks::detached.eq(false));
    let change = abandoned.set(tasks::lease_expires_at.eq(rows::micros(now)));
    link::on_engine!(&mut link, c => change.execute(c))?;
    Ok(())
}
