//! Keeps tasks and executors in SQLite or PostgreSQL.
//!
//! Writes are commands to one writer, which commits many of them together and answers each
//! after the commit. Reads take a connection from a pool and see one snapshot. A missing row is
//! `None`, a lost race is a value; an [`Error`] means that the store could not do its work.

mod attempt;
mod circuit;
mod claim;
mod command;
mod dialect;
mod enqueue;
mod error;
mod executor_row;
mod executors;
mod explain;
mod link;
mod list;
mod logs;
mod migrate;
mod pool;
mod reads;
mod registry;
mod rows;
mod schema;
mod signals;
mod steer;
mod sweep;
mod transition;
mod tx;
mod writer;

use std::{
    pin::pin,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

pub use attempt::{FinishRequest, LeaseLost, NewLogLine, RenewRequest};
pub use claim::ClaimRequest;
pub use enqueue::{EnqueueAnswer, EnqueueConflict, Enqueued};
pub use error::{Error, Result};
pub use executors::Registered;
pub use list::{PathFilter, Phase, TaskFilter, TaskPage};
pub use logs::LogPage;
pub use signals::CancelSignal;
pub use steer::{CancelAnswer, CancelRequest, DeleteAnswer, RetryAnswer};

use self::{
    command::{Command, Pending},
    link::Link,
    pool::{FileLock, Pool},
    registry::Registry,
    signals::Signals,
    sweep::SweepRequest,
    writer::Writer,
};
use crate::{
    clock::Clock,
    config::Database,
    domain::{
        Timestamp,
        attempt::{Outcome, RecordedFailure},
        executor::{Executor, Registration},
        json::JsonText,
        lease::{Claimed, Lease, LeaseToken, Renewal},
        names::ExecutorName,
        state::Stage,
        task::{NewTask, Reason, Task, TaskId},
    },
    entropy::Entropy,
};

/// How often a waiting reader looks by itself; on one process the writer tells it earlier.
const WAIT_POLL: Duration = Duration::from_secs(1);

/// The store; clones share it.
#[derive(Clone)]
pub struct Store {
    commands: mpsc::Sender<Command>,
    /// Room for new tasks that wait for the writer, in KiB.
    room: Arc<Semaphore>,
    pool: Pool,
    signals: Arc<Signals>,
    clock: Arc<dyn Clock>,
}

/// What only one part of the program gets.
pub struct Opened {
    pub store: Store,
    /// For the dispatcher: attempts that are to be stopped.
    pub cancels: mpsc::Receiver<CancelSignal>,
    pub closing: Closing,
}

/// Waits for the last commit.
pub struct Closing {
    writer: JoinHandle<()>,
    _lock: Option<FileLock>,
}

impl Closing {
    /// Returns once every [`Store`] is gone and what they sent is committed.
    pub fn wait(self) {
        if self.writer.join().is_err() {
            tracing::error!("the writer panicked");
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

/// Brings the schema up to date without opening the store.
pub fn migrate(database: &Database) -> anyhow::Result<Vec<String>> {
    let _lock = FileLock::take(&database.url)?;
    migrate::run(&mut pool::open_writer(&database.url, database.synchronous)?)
}

impl Store {
    /// Opens the database, brings its schema up to date and starts the writer.
    pub fn open(
        database: &Database,
        deliveries_max: u32,
        clock: Arc<dyn Clock>,
        entropy: Arc<Entropy>,
    ) -> anyhow::Result<Opened> {
        let lock = FileLock::take(&database.url)?;
        let mut connection = pool::open_writer(&database.url, database.synchronous)?;
        migrate::run(&mut connection)?;
        if lock.is_some() {
            // Nobody else has the file, so whoever ran these in a request is dead.
            connection
                .transaction(|link| abandon_requests(link, clock.now()))
                .context("cannot end the attempts of the process before")?;
        }
        let pool = Pool::open(&database.url, database.readers)?;
        let (signals, cancels) = Signals::new();
        let (commands, receiver) = mpsc::channel(writer::QUEUE_COMMANDS_MAX);
        let (url, synchronous) = (database.url.clone(), database.synchronous);
        let writer = Writer {
            connection,
            connect: Box::new(move || pool::open_writer(&url, synchronous)),
            clock: Arc::clone(&clock),
            entropy,
            signals: Arc::clone(&signals),
            registry: Registry::empty(),
            deliveries_max,
        };
        let writer = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(receiver))?;
        let room = Arc::new(Semaphore::new(writer::QUEUE_KIB_MAX));
        let store = Self { commands, room, pool, signals, clock };
        Ok(Opened { store, cancels, closing: Closing { writer, _lock: lock } })
    }

    /// Enqueues tasks, all or none; refused at once when the writer has too much to do.
    pub async fn enqueue(&self, tasks: Vec<NewTask>) -> Result<EnqueueAnswer> {
        let kib = tasks.iter().map(NewTask::bytes).sum::<usize>() / 1024 + 1;
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        let _room = self.room.try_acquire_many(kib).map_err(|_full| Error::Overloaded)?;
        self.ask(Command::Enqueue, tasks).await
    }

    /// Claims what may start now; the dispatcher's part.
    pub async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>> {
        self.insist(Command::Claim, request).await
    }

    pub async fn renew(
        &self,
        request: RenewRequest,
    ) -> Result<std::result::Result<Renewal, LeaseLost>> {
        self.insist(Command::Renew, request).await
    }

    /// The executor goes on by itself and reports with its token.
    pub async fn detach(&self, lease: Lease) -> Result<std::result::Result<(), LeaseLost>> {
        self.insist(Command::Detach, lease.into()).await
    }

    /// Ends an attempt. Exactly one end of each attempt is recorded.
    pub async fn finish(
        &self,
        lease: impl Into<LeaseToken>,
        outcome: Outcome,
    ) -> Result<std::result::Result<TaskId, LeaseLost>> {
        self.insist(Command::Finish, FinishRequest { token: lease.into(), outcome }).await
    }

    pub async fn cancel(&self, request: CancelRequest) -> Result<CancelAnswer> {
        self.ask(Command::Cancel, request).await
    }

    pub async fn retry(&self, id: TaskId) -> Result<RetryAnswer> {
        self.ask(Command::Retry, id).await
    }

    pub async fn delete(&self, id: TaskId) -> Result<DeleteAnswer> {
        self.ask(Command::Delete, id).await
    }

    pub async fn put_executor(&self, registration: Registration) -> Result<Registered> {
        self.ask(Command::Put, registration).await
    }

    /// Says whether it was there.
    pub async fn remove_executor(&self, name: ExecutorName) -> Result<bool> {
        self.ask(Command::Remove, name).await
    }

    /// Does what time has brought about; the reaper's part.
    pub async fn sweep(&self) -> Result<()> {
        self.insist(Command::Sweep, SweepRequest).await
    }

    /// Whether the database takes writes: an empty batch is committed.
    pub async fn check(&self) -> Result<()> {
        self.ask(Command::Claim, ClaimRequest { permits: 0 }).await.map(drop)
    }

    pub async fn task(&self, id: TaskId) -> Result<Option<Task>> {
        self.read(move |mut link| {
            let row = reads::row(&mut link, id)?;
            row.map(|row| reads::record(&mut link, row)).transpose()
        })
        .await
    }

    pub async fn task_state(&self, id: TaskId) -> Result<Option<TaskState>> {
        self.read(move |mut link| {
            let Some(row) = reads::row(&mut link, id)? else {
                return Ok(None);
            };
            Ok(Some(TaskState {
                id,
                stage: row.stage()?,
                attempts: rows::count(row.now.attempts),
                progress: row.progress(),
                run_after: reads::run_after(&row)?,
                times: row.times()?,
                lease: row.lease()?,
            }))
        })
        .await
    }

    pub async fn task_end(&self, id: TaskId) -> Result<Option<TaskEnd>> {
        self.read(move |mut link| {
            let Some(row) = reads::row(&mut link, id)? else {
                return Ok(None);
            };
            Ok(Some(TaskEnd {
                id,
                stage: row.stage()?,
                return_value: reads::return_value(&mut link, &row)?,
                errors: reads::errors(&mut link, row.seq)?,
                finished_at: row.times()?.finished_at,
            }))
        })
        .await
    }

    pub async fn explain(&self, id: TaskId) -> Result<Option<(Stage, Vec<Reason>)>> {
        let now = self.clock.now();
        self.read(move |mut link| {
            let Some(row) = reads::row(&mut link, id)? else {
                return Ok(None);
            };
            Ok(Some((row.stage()?, explain::reasons(&mut link, &row, now)?)))
        })
        .await
    }

    pub async fn logs(&self, id: TaskId, after: i64, limit: u32) -> Result<Option<LogPage>> {
        self.read(move |mut link| {
            let row = reads::row(&mut link, id)?;
            row.map(|row| logs::page(&mut link, row.seq, after, limit)).transpose()
        })
        .await
    }

    pub async fn tasks(&self, filter: TaskFilter) -> Result<TaskPage> {
        self.read(move |mut link| list::page(&mut link, &filter)).await
    }

    /// All executors, by name.
    pub async fn executors(&self) -> Result<Vec<Executor>> {
        let mut executors = self.read(|mut link| registry::load(&mut link)).await?;
        executors.sort_by(|a, b| a.registration.name.cmp(&b.registration.name));
        Ok(executors)
    }

    /// Returns once the task has ended, or `limit` has passed, or there is no such task.
    pub async fn wait_for_end(&self, id: TaskId, limit: Duration) -> Result<()> {
        match tokio::time::timeout(limit, self.end_of(id)).await {
            Ok(ended) => ended,
            Err(_elapsed) => Ok(()),
        }
    }

    async fn end_of(&self, id: TaskId) -> Result<()> {
        let ending = self.signals.ending(id);
        loop {
            let mut notified = pin!(ending.notified());
            notified.as_mut().enable();
            let state = self.task_state(id).await?;
            if state.is_none_or(|state| state.stage.is_finished()) {
                return Ok(());
            }
            tokio::select! {
                () = notified => {}
                () = self.clock.sleep(WAIT_POLL) => {}
            }
        }
    }

    /// Returns once there may be something to claim that was not there at the last call.
    pub async fn work(&self) {
        self.signals.work().await;
    }

    /// Makes [`Store::work`] return.
    pub fn wake_dispatcher(&self) {
        self.signals.wake_dispatcher();
    }

    /// The time at which [`Store::sweep`] has something to do, as far as is known.
    pub fn alarm(&self) -> watch::Receiver<Option<Timestamp>> {
        self.signals.alarm()
    }

    /// Sends a command, unless the writer has too much to do.
    async fn ask<I, O>(&self, command: fn(Pending<I, O>) -> Command, input: I) -> Result<O> {
        let (waiter, answer) = oneshot::channel();
        self.commands.try_send(command(Pending::new(input, waiter))).map_err(
            |error| match error {
                mpsc::error::TrySendError::Full(_) => Error::Overloaded,
                mpsc::error::TrySendError::Closed(_) => Error::Closed,
            },
        )?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// Sends a command that must not be turned away: heartbeats and ends of attempts have to
    /// get through just when there is too much to do.
    async fn insist<I, O>(&self, command: fn(Pending<I, O>) -> Command, input: I) -> Result<O> {
        let (waiter, answer) = oneshot::channel();
        if self.commands.send(command(Pending::new(input, waiter))).await.is_err() {
            return Err(Error::Closed);
        }
        answer.await.unwrap_or(Err(Error::Closed))
    }

    async fn read<T: Send + 'static>(
        &self,
        body: impl FnOnce(Link<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let pool = self.pool.clone();
        tokio::task::spawn_blocking(move || pool.reader()?.snapshot(body))
            .await
            .unwrap_or_else(|error| Err(Error::Unavailable(Box::new(error))))
    }
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
