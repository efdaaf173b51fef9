//! The questions that the rest of the service can ask of the store. A read takes a connection from
//! the pool and sees one snapshot.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    AuditPage, Error, EventReader, LogPage, Result, Stats, Store, TaskEnd, TaskFilter, TaskNews,
    TaskPage, TaskState, TaskWatch, TokenTable, Upkeep, audit,
    explain::{self, Here},
    history,
    link::Link,
    list, logs, plugins,
    pool::Reader,
    prune, queues, reads, registry,
    rows::{self, TaskRow},
    sizes::Take,
    snapshots, stats, sweep, tokens,
    writes::{ANSWER_TIMEOUT, ROOM_LOOK},
};
use crate::{
    domain::{
        Timestamp,
        event::{EventPlace, TaskPlace},
        executor::Executor,
        names::QueueName,
        plugin::{Digest, Plugin},
        queue::QueueState,
        reason::{Lack, Reason},
        retention::{EndedCounts, Retention},
        state::Stage,
        task::{Task, TaskId},
        token::Token,
    },
    memory::{Held, Lane},
};

/// How often a waiting request looks by itself. As a rule a signal of the writer, or of another
/// process, comes earlier.
const WAIT_POLL: Duration = Duration::from_secs(1);

impl Store {
    pub async fn task(&self, id: TaskId) -> Result<Option<Held<Task>>> {
        self.record(id, Lane::take).await
    }

    async fn record(&self, id: TaskId, take: Take) -> Result<Option<Held<Task>>> {
        let store = self.clone();
        self.read(move |mut link| {
            let row = reads::stored_row(&mut link, id)?;
            row.map(|row| store.read_held(&mut link, row, take, reads::record)).transpose()
        })
        .await
    }

    /// The record of a task that was just written to. It may take the room that is kept for urgent
    /// answers, and waits for room: the change is done, and after an error the caller would ask for
    /// it again.
    pub async fn task_written(&self, id: TaskId) -> Result<Option<Held<Task>>> {
        let until = self.clock.elapsed() + ANSWER_TIMEOUT;
        loop {
            match self.record(id, Lane::take_urgent).await {
                Err(Error::NoRoom) if self.clock.elapsed() < until => {
                    self.clock.sleep(ROOM_LOOK).await;
                }
                read => return read,
            }
        }
    }

    /// The queue that a task is in, or was.
    pub async fn queue_of(&self, id: TaskId) -> Result<Option<String>> {
        self.read(move |mut link| Ok(reads::row(&mut link, id)?.map(|row| row.queue_name))).await
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

    pub async fn task_end(&self, id: TaskId) -> Result<Option<Held<TaskEnd>>> {
        let store = self.clone();
        self.read(move |mut link| {
            let row = reads::row(&mut link, id)?;
            let end = |link: &mut Link<'_>, row: TaskRow| {
                Ok(TaskEnd {
                    id,
                    stage: row.stage()?,
                    return_value: reads::return_value(link, &row)?,
                    errors: reads::errors(link, row.seq)?,
                    errors_dropped: rows::count(row.errors_dropped),
                    finished_at: row.times()?.finished_at,
                })
            };
            row.map(|row| store.read_held(&mut link, row, Lane::take, end)).transpose()
        })
        .await
    }

    /// Where a task is, and why. `lack` says why this process could not begin a call of an executor
    /// with a number of bytes, if so.
    pub async fn explain(
        &self,
        id: TaskId,
        lack: impl FnOnce(&Executor, usize) -> Option<Lack> + Send + 'static,
    ) -> Result<Option<(Stage, Vec<Reason>)>> {
        let (now, asks) = (self.clock.now(), Arc::clone(&self.asks));
        self.read(move |mut link| {
            let Some(row) = reads::stored_row(&mut link, id)? else {
                return Ok(None);
            };
            let here = Here { now, lack, asks: &asks };
            explain::explain(&mut link, row, here).map(Some)
        })
        .await
    }

    pub async fn logs(&self, id: TaskId, after: i64, limit: u32) -> Result<Option<Held<LogPage>>> {
        let store = self.clone();
        self.read(move |mut link| {
            let Some(row) = reads::row(&mut link, id)? else {
                return Ok(None);
            };
            let share = store.room_for(logs::page_bytes_max(&mut link, row.seq)?)?;
            let value = logs::page(&mut link, row.seq, after, limit)?;
            Ok(Some(Held { value, share }))
        })
        .await
    }

    pub async fn tasks(&self, filter: TaskFilter) -> Result<Held<TaskPage>> {
        let store = self.clone();
        self.read(move |mut link| list::page(&mut link, &filter, |bytes| store.room_for(bytes)))
            .await
    }

    /// All executors, by name.
    pub async fn executors(&self) -> Result<Vec<Executor>> {
        let mut executors = self.read(|mut link| Ok(registry::load(&mut link)?.executors)).await?;
        executors.sort_by(|a, b| a.registration.name.cmp(&b.registration.name));
        Ok(executors)
    }

    /// How many tasks pruning would delete.
    pub async fn prunable(&self, retention: Retention) -> Result<EndedCounts> {
        let now = self.clock.now();
        self.read(move |mut link| prune::prunable(&mut link, retention, now)).await
    }

    /// Counts all tasks. Only one caller at a time does so, since it reads much.
    pub async fn stats(&self) -> Result<Stats> {
        let _turn = self.counting.lock().await;
        let now = self.clock.now();
        self.read(move |mut link| stats::stats(&mut link, now)).await
    }

    /// How large the database is, how many dead rows PostgreSQL has, and for how long the oldest
    /// transaction has kept them.
    pub async fn upkeep(&self) -> Result<Upkeep> {
        self.read(|mut link| snapshots::upkeep(&mut link)).await
    }

    /// How many commands wait for the writer.
    pub fn commands_waiting(&self) -> usize {
        self.commands.max_capacity() - self.commands.capacity()
    }

    /// Whether the last transaction that the writer tried was carried out.
    pub fn is_usable(&self) -> bool {
        self.health.check().is_ok()
    }

    /// Whether every waiting task belongs to the executor that serves it now.
    pub(super) async fn is_routed(&self) -> Result<bool> {
        self.read(|mut link| sweep::is_routed(&mut link)).await
    }

    /// Queues with live tasks or settings, by name.
    pub async fn queues(&self) -> Result<Vec<QueueState>> {
        self.read(|mut link| queues::states(&mut link, None)).await
    }

    /// One queue, whether or not anything is in it.
    pub async fn queue(&self, name: QueueName) -> Result<Option<QueueState>> {
        let states =
            self.read(move |mut link| queues::states(&mut link, Some(name.as_str()))).await?;
        Ok(states.into_iter().next())
    }

    pub async fn executor(&self, name: String) -> Result<Option<Executor>> {
        self.read(move |mut link| registry::load_one(&mut link, &name)).await
    }

    /// All plugins, by name.
    pub async fn plugins(&self) -> Result<Vec<Plugin>> {
        self.read(|mut link| plugins::all(&mut link)).await
    }

    pub async fn plugin(&self, name: String) -> Result<Option<Plugin>> {
        self.read(move |mut link| plugins::one(&mut link, &name)).await
    }

    /// All tokens; `None` if they are still of the version `known`.
    pub async fn tokens(&self, known: i64) -> Result<Option<TokenTable>> {
        self.read(move |mut link| {
            if tokens::version(&mut link)? == known {
                return Ok(None);
            }
            tokens::load(&mut link).map(Some)
        })
        .await
    }

    /// All tokens, by name.
    pub async fn all_tokens(&self) -> Result<Vec<Token>> {
        self.read(|mut link| Ok(tokens::load(&mut link)?.tokens)).await
    }

    /// A page of the audit log, newest first.
    pub async fn audit(&self, before: Option<i64>, limit: u32) -> Result<AuditPage> {
        self.read(move |mut link| audit::page(&mut link, before, limit)).await
    }

    /// A stored component of a plugin.
    pub async fn component(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        self.read(move |mut link| plugins::component(&mut link, digest)).await
    }

    /// Returns once the task has ended, or `limit` has passed; at once if there is no such task.
    pub async fn wait_for_end(&self, id: TaskId, limit: Duration) -> Result<()> {
        match tokio::time::timeout(limit, self.end_of(id)).await {
            Ok(ended) => ended,
            Err(_elapsed) => Ok(()),
        }
    }

    async fn end_of(&self, id: TaskId) -> Result<()> {
        let ending = self.signals.ending(id);
        loop {
            // Registered before the task is read, so that an end in between is not missed.
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

    /// Reads events after a place, or from now on.
    pub async fn events(&self, place: Option<EventPlace>) -> Result<EventReader> {
        EventReader::open(self.clone(), place).await
    }

    /// The events of a task since a place; `None` if there is no such task.
    pub async fn task_news(&self, id: TaskId, place: TaskPlace) -> Result<Option<TaskNews>> {
        self.read(move |mut link| history::since(&mut link, id, place)).await
    }

    /// Watches one task.
    pub fn watch(&self, id: TaskId) -> TaskWatch {
        TaskWatch::open(self.clone(), id)
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        body: impl FnOnce(Link<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.ask_reader(|reader| reader.snapshot(body)).await
    }

    pub(super) async fn ask_reader<T: Send + 'static>(
        &self,
        body: impl FnOnce(&mut Reader) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        // While PostgreSQL is away, a reader fails at once. An SQLite file may still be readable.
        if !self.pool.is_local() {
            self.health.check()?;
        }
        let (pool, file) = (self.pool.clone(), Arc::clone(&self.file));
        let reading = tokio::task::spawn_blocking(move || {
            file.check()?;
            body(&mut pool.reader()?)
        });
        match tokio::time::timeout(ANSWER_TIMEOUT, reading).await {
            Ok(read) => read.unwrap_or_else(|error| Err(Error::Unavailable(Box::new(error)))),
            Err(_elapsed) => Err(Error::Unavailable("the database does not answer".into())),
        }
    }
}
