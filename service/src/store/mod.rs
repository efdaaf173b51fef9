//! Keeps tasks and executors in SQLite or PostgreSQL.
//!
//! Writes are commands to one writer, which commits many of them together and answers each
//! after the commit. Reads take a connection from a pool and see one snapshot. A missing row is
//! `None`, a lost race is a value; an [`Error`] means that the store could not do its work.

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

use std::{
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context;
use tokio::sync::{Semaphore, mpsc};

pub use attempt::{Ended, FinishRequest, LeaseLost, RenewRequest};
pub use audit::{AuditPage, Note};
pub use backup::backup;
pub use claim::{ClaimRequest, Claimer, Claims};
pub use copy::{Copied, CopiedTable, CopyProgress, copy};
pub use enqueue::{EnqueueAnswer, EnqueueConflict, Enqueued};
pub use error::{Error, Misplaced, Result};
pub use events::EventChunk;
pub use executors::{NotRegistered, Registered};
pub use feed::{EventReader, Heard, TaskWatch};
pub use flaws::Flaws;
pub use history::TaskNews;
pub use inspect::{Called, Inspection, Schema, exists, inspect, is_in_use};
pub use list::{PathFilter, Phase, TaskFilter, TaskPage};
pub use logs::LogPage;
pub use plugins::{ActivateAnswer, ActivateRequest, Installed, UninstallAnswer};
pub use postgres::UNSAID_POOLER;
pub use prune::Pruned;
pub use queues::{QueueChange, TooManyQueues};
pub use signals::{Callee, CancelSignal};
pub use snapshots::{DeadRows, Holder};
pub use stats::Stats;
pub use steer::{CancelAnswer, CancelRequest, DeleteAnswer, RetryAnswer};
pub use tokens::{
    AdminElsewhere, CreateTokenAnswer, CreateTokenRequest, RevokeTokenAnswer, RevokeTokenRequest,
    TokenTable,
};

use self::{
    command::Command,
    feed::Feed,
    file::{DatabaseFile, FileLock},
    floors::Floors,
    guard::Guard,
    health::{Health, Reconnect},
    link::{Connection, Link},
    listen::Listener,
    pool::Pool,
    registry::Registry,
    signals::Signals,
    timekeeper::Timekeeper,
    vacuum::Vacuum,
    writer::Writer,
};
use crate::{
    clock::Clock,
    config::{Database, DatabaseUrl},
    domain::{Timestamp, attempt::RecordedFailure, json::JsonText, state::Stage, task::TaskId},
    entropy::Entropy,
    memory::Memory,
    metrics::Metrics,
    vault::Vault,
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

/// How often an idle worker looks by itself for tasks of which nobody told. Other processes may
/// bring them about, and may not be able to say so.
fn idle_poll(shared: bool, listening: bool) -> Duration {
    Duration::from_secs(if shared && !listening { 1 } else { 5 })
}

/// What the store is given to work with.
pub struct Surroundings {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<Entropy>,
    pub memory: Arc<Memory>,
    pub metrics: Arc<Metrics>,
    pub vital: Vital,
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
        let Surroundings { clock, entropy, memory, metrics, vital } = surroundings;
        let lock = FileLock::take(&database.url)?;
        let guard = Guard::watched(&database.url, &vital)?;
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
        let file = Arc::new(DatabaseFile::opened(&database.url)?);
        let pool = Pool::open(database, Arc::clone(&file), &guard)?;
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
            vital.thread("listener", move || listener.run())
        });
        let health = Arc::new(Health::new());
        let way = Way { database: database.clone(), file: Arc::clone(&file), guard };
        let guard = Arc::clone(&way.guard);
        let (keeper_until, keeper) = start_keeper(way.clone(), Arc::clone(&health), &vital)?;
        let writer = Writer {
            connection: Some(connection),
            connect: reconnecting(way),
            reconnect: Reconnect::default(),
            file: Arc::clone(&file),
            health: Arc::clone(&health),
            clock: Arc::clone(&clock),
            timekeeper: Timekeeper::default(),
            entropy,
            signals: Arc::clone(&signals),
            outbox: listener.is_some().then_some(outbox),
            _keeper: keeper_until,
            registry: Registry::empty(),
            floors: Floors::new(),
            deliveries_max,
            memory: Arc::clone(&memory),
            metrics,
        };
        let writer = vital.thread("writer", move || writer.run(receiver))?;
        let listener = listener.transpose()?;
        let room = Arc::new(Semaphore::new(writer::QUEUE_KIB_MAX));
        let log_room = Arc::new(Semaphore::new(log_room::LOG_KIB_MAX));
        let idle_poll = idle_poll(lock.is_none(), listener.is_some());
        let counting = Arc::default();
        let feed = Arc::new(Feed::new());
        let store = Self {
            commands,
            room,
            log_room,
            pool,
            file,
            health,
            signals,
            feed,
            idle_poll,
            counting,
            memory,
            clock,
        };
        Ok(Opened {
            store,
            cancels,
            closing: Closing { writer, listener, keeper, guard, _lock: lock },
            tokens,
        })
    }
}

/// What leads to the database.
#[derive(Clone)]
struct Way {
    database: Database,
    file: Arc<DatabaseFile>,
    guard: Arc<Guard>,
}

/// Makes the writer's next connection, to the database that the one before led to.
fn reconnecting(way: Way) -> Box<dyn Fn() -> anyhow::Result<Connection> + Send> {
    Box::new(move || {
        let mut connection = pool::open_writer(&way.database, &way.guard)?;
        migrate::check_still_there(&mut connection)?;
        way.file.reopened();
        Ok(connection)
    })
}

/// What each engine needs looking after, and what it works until the end of.
fn start_keeper(
    way: Way,
    health: Arc<Health>,
    vital: &Vital,
) -> std::io::Result<(SyncSender<()>, JoinHandle<()>)> {
    let (closing, closed) = sync_channel(1);
    let keep: Box<dyn FnOnce() + Send> = match way.database.url {
        DatabaseUrl::Sqlite(_) => Box::new(move || way.file.watch(&health, &closed)),
        DatabaseUrl::Postgres(_) => {
            let connect = Box::new(move || pool::open_sweeper(&way.database, &way.guard));
            let vacuum = Vacuum { connect, closed };
            Box::new(move || vacuum.run())
        }
    };
    Ok((closing, vital.thread("keeper", keep)?))
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
