//! When workers have asked for tasks last, and of which queues: a task that waits for a worker says so.
//!
//! A process knows of the workers that ask it, and writes that down for the others, and for the process
//! after it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use diesel::{dsl::max, prelude::*, upsert::excluded};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    Store,
    error::Result,
    link::{Link, on_engine},
    rows::{from_json, micros, nearest_time, to_json},
    schema::{asks, executors},
    tx::Tx,
};
use crate::{
    clock::Clock,
    domain::{Timestamp, executor::ExecutorId, names::QueueName, queue::QueueFilter},
};

/// How often a worker that goes on asking is written down.
const PERIOD: Duration = Duration::from_secs(20);
/// Sets of queues that are kept for one executor: those that were asked for last.
const FILTERS_MAX: usize = 100;
/// For so long a process remembers that it has written something down.
const REMEMBERED: Duration = Duration::from_mins(10);

/// A wish for tasks of these queues, and when a worker last had it.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) executor: ExecutorId,
    pub(super) queues: QueueFilter,
    pub(super) at: Timestamp,
}

/// The asks that this process knows of.
#[derive(Debug)]
pub(super) struct Asks {
    clock: Arc<dyn Clock>,
    known: Mutex<HashMap<ExecutorId, HashMap<QueueFilter, Known>>>,
    /// Some worker asks for what none has asked for before.
    new: Notify,
}

#[derive(Debug)]
struct Known {
    /// Requests that wait at this moment.
    waiting: usize,
    at: Timestamp,
    written: Option<Timestamp>,
}

impl Known {
    fn at(&self, now: Timestamp) -> Timestamp {
        if self.waiting > 0 { now } else { self.at }
    }
}

impl Asks {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, known: Mutex::default(), new: Notify::new() }
    }

    /// A worker asks, until this is dropped.
    pub(super) fn begin(
        self: &Arc<Self>,
        executor: ExecutorId,
        queues: &QueueFilter,
    ) -> Option<Asking> {
        let now = self.clock.now();
        let mut known = self.known();
        let of_executor = known.entry(executor).or_default();
        if let Some(one) = of_executor.get_mut(queues) {
            (one.waiting, one.at) = (one.waiting + 1, now);
        } else if has_room(of_executor) {
            of_executor.insert(queues.clone(), Known { waiting: 1, at: now, written: None });
            self.new.notify_one();
        } else {
            return None;
        }
        Some(Asking { asks: Arc::clone(self), executor, queues: queues.clone() })
    }

    fn end(&self, executor: ExecutorId, queues: &QueueFilter) {
        let now = self.clock.now();
        let mut known = self.known();
        if let Some(one) = known.get_mut(&executor).and_then(|known| known.get_mut(queues)) {
            (one.waiting, one.at) = (one.waiting.saturating_sub(1), now);
        }
    }

    /// Those that were for one executor.
    pub(super) fn of(&self, executor: ExecutorId) -> Vec<Ask> {
        let now = self.clock.now();
        let known = self.known();
        let of_executor = known.get(&executor).into_iter().flatten();
        of_executor
            .map(|(queues, known)| Ask { executor, queues: queues.clone(), at: known.at(now) })
            .collect()
    }

    /// When each executor was asked for last.
    fn newest(&self) -> Vec<(ExecutorId, Timestamp)> {
        let now = self.clock.now();
        let known = self.known();
        let newest = known.iter().filter_map(|(executor, of_executor)| {
            let at = of_executor.values().map(|known| known.at(now)).max()?;
            Some((*executor, at))
        });
        newest.collect()
    }

    /// Those that were not written down since.
    fn unwritten(&self) -> Vec<Ask> {
        let now = self.clock.now();
        let mut unwritten = Vec::new();
        for (executor, known) in &*self.known() {
            for (queues, known) in known {
                let at = known.at(now);
                if known.written.is_none_or(|written| written < at) {
                    unwritten.push(Ask { executor: *executor, queues: queues.clone(), at });
                }
            }
        }
        unwritten
    }

    /// These are written down; what is long past is forgotten here.
    fn written(&self, written: &[Ask]) {
        let mut known = self.known();
        for ask in written {
            let one = known.get_mut(&ask.executor).and_then(|known| known.get_mut(&ask.queues));
            if let Some(one) = one {
                one.written = Some(ask.at);
            }
        }
        let long_past = self.clock.now().saturating_sub(REMEMBERED).unwrap_or(Timestamp::MIN);
        for of_executor in known.values_mut() {
            of_executor.retain(|_, known| {
                known.waiting > 0 || known.written != Some(known.at) || known.at > long_past
            });
        }
        known.retain(|_, known| !known.is_empty());
    }

    fn known(&self) -> MutexGuard<'_, HashMap<ExecutorId, HashMap<QueueFilter, Known>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes room for one more, if need be in place of the one that was asked for first.
fn has_room(of_executor: &mut HashMap<QueueFilter, Known>) -> bool {
    if of_executor.len() < FILTERS_MAX {
        return true;
    }
    let answered = of_executor.iter().filter(|(_, known)| known.waiting == 0);
    let first = answered.min_by_key(|(_, known)| known.at).map(|(queues, _)| queues.clone());
    first.is_some_and(|first| of_executor.remove(&first).is_some())
}

/// A request of a worker that has not been answered.
pub(super) struct Asking {
    asks: Arc<Asks>,
    executor: ExecutorId,
    queues: QueueFilter,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.asks.end(self.executor, &self.queues);
    }
}

impl Store {
    /// When a worker of each executor has asked for tasks last; those that none has asked for are
    /// left out.
    pub async fn asked_at(&self) -> Result<HashMap<ExecutorId, Timestamp>> {
        let mut asked_at = self.read(|mut link| load_newest(&mut link)).await?;
        for (executor, at) in self.asks.newest() {
            let newest = asked_at.entry(executor).or_insert(at);
            *newest = at.max(*newest);
        }
        Ok(asked_at)
    }

    /// Writes down who asks: at once where that is new, at the end, else every now and then.
    pub async fn keep_asks(self, shutdown: CancellationToken) {
        loop {
            let stops = tokio::select! {
                () = shutdown.cancelled() => true,
                () = self.asks.new.notified() => false,
                () = self.clock.sleep(PERIOD) => false,
            };
            self.write_asks().await;
            if stops {
                return;
            }
        }
    }

    async fn write_asks(&self) {
        let unwritten = self.asks.unwritten();
        if unwritten.is_empty() {
            return;
        }
        match self.note_asks(unwritten.clone()).await {
            Ok(()) => self.asks.written(&unwritten),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "which workers ask for tasks is not written down");
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
struct StoredFilter {
    only: Option<Vec<String>>,
    except: Vec<String>,
}

impl StoredFilter {
    fn new(queues: &QueueFilter) -> Self {
        let texts = |names: &Vec<QueueName>| names.iter().map(ToString::to_string).collect();
        Self { only: queues.only.as_ref().map(texts), except: texts(&queues.except) }
    }

    /// Names that are none stand for no queue.
    fn filter(self) -> QueueFilter {
        let names =
            |texts: Vec<String>| texts.iter().filter_map(|text| text.parse().ok()).collect();
        QueueFilter { only: self.only.map(names), except: names(self.except) }
    }
}

pub(super) fn note(tx: &mut Tx<'_>, all: &[&Vec<Ask>]) -> Result<Vec<()>> {
    let mut noted: Vec<&Ask> = all.iter().copied().flatten().collect();
    // One order for all processes, so that two of them do not wait for each other.
    noted.sort_by_key(|ask| ask.executor);
    for of_executor in noted.chunk_by(|one, next| one.executor == next.executor) {
        note_executor(tx, of_executor)?;
    }
    Ok(vec![(); all.len()])
}

fn note_executor(tx: &mut Tx<'_>, noted: &[&Ask]) -> Result<()> {
    let Some(id) = noted.first().map(|ask| ask.executor.0) else { return Ok(()) };
    let is_there = executors::table.find(id).select(executors::id);
    let is_there: Option<i64> = on_engine!(&mut tx.link, c => is_there.first(c).optional())?;
    if is_there.is_none() {
        // It was removed meanwhile.
        return Ok(());
    }
    let mut rows = Vec::with_capacity(noted.len());
    for ask in noted {
        let queues = to_json(&StoredFilter::new(&ask.queues), "queues")?;
        rows.push((Sha256::digest(&queues).to_vec(), queues, micros(ask.at)));
    }
    rows.sort();
    for (digest, queues, at) in rows {
        let row = (
            asks::executor_id.eq(id),
            asks::digest.eq(digest),
            asks::queues.eq(queues),
            asks::asked_at.eq(at),
        );
        on_engine!(&mut tx.link, c => diesel::insert_into(asks::table)
            .values(row)
            .on_conflict((asks::executor_id, asks::digest))
            .do_update()
            .set(asks::asked_at.eq(excluded(asks::asked_at)))
            .execute(c))?;
    }
    trim(tx, id)
}

/// Deletes what is beyond [`FILTERS_MAX`].
fn trim(tx: &mut Tx<'_>, executor_id: i64) -> Result<()> {
    let newest = asks::table
        .filter(asks::executor_id.eq(executor_id))
        .order(asks::asked_at.desc())
        .select(asks::digest);
    let digests: Vec<Vec<u8>> = on_engine!(&mut tx.link, c => newest.load(c))?;
    for digest in digests.into_iter().skip(FILTERS_MAX) {
        let old = asks::table.find((executor_id, digest));
        on_engine!(&mut tx.link, c => diesel::delete(old).execute(c))?;
    }
    Ok(())
}

fn load_newest(link: &mut Link<'_>) -> Result<HashMap<ExecutorId, Timestamp>> {
    let rows =
        asks::table.group_by(asks::executor_id).select((asks::executor_id, max(asks::asked_at)));
    let rows: Vec<(i64, Option<i64>)> = on_engine!(link, c => rows.load(c))?;
    let newest =
        |(executor, at): (i64, Option<i64>)| Some((ExecutorId(executor), nearest_time(at?)));
    Ok(rows.into_iter().filter_map(newest).collect())
}

/// The asks of an executor that were written down. A row that cannot be read is left out.
pub(super) fn load(link: &mut Link<'_>, executor: ExecutorId) -> Result<Vec<Ask>> {
    let rows =
        asks::table.filter(asks::executor_id.eq(executor.0)).select((asks::queues, asks::asked_at));
    let rows: Vec<(String, i64)> = on_engine!(link, c => rows.load(c))?;
    let ask = |(queues, at): (String, i64)| {
        let queues = from_json::<StoredFilter>(&queues, "queues").ok()?.filter();
        Some(Ask { executor, queues, at: nearest_time(at) })
    };
    Ok(rows.into_iter().filter_map(ask).collect())
}
