//! The writer's copy of executors and queues. It is read again when the version in the database
//! shows that another process has changed them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use diesel::prelude::*;

use super::{
    error::{Error, Result},
    executor_row::ExecutorRow,
    link::{Link, on_engine},
    rows::{count, micros, number},
    schema::{executors, queues, routing},
};
use crate::domain::{
    circuit::Circuit,
    executor::{Executor, ExecutorId},
    queue::QueueSettings,
    route::{Pattern, Routes},
};

#[derive(Debug)]
pub(super) struct Registry {
    version: Option<i64>,
    executors: BTreeMap<ExecutorId, Arc<Executor>>,
    /// The task paths of executors that cannot be read: no other executor gets their tasks.
    unreadable: BTreeMap<ExecutorId, Vec<Pattern>>,
    routes: Routes<ExecutorId>,
    queues: HashMap<String, QueueSettings>,
    /// Executors whose circuit this transaction has changed.
    learned: BTreeSet<ExecutorId>,
}

impl Registry {
    pub(super) fn empty() -> Self {
        Self {
            version: None,
            executors: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            routes: Routes::new([]),
            queues: HashMap::new(),
            learned: BTreeSet::new(),
        }
    }

    /// Reads everything again, unless the copy is of this version.
    pub(super) fn refresh(&mut self, link: &mut Link<'_>, version: i64) -> Result<()> {
        if self.version == Some(version) {
            return Ok(());
        }
        let Loaded { executors, unreadable } = load(link)?;
        for Unreadable { name, error, .. } in &unreadable {
            let error = error as &dyn std::error::Error;
            tracing::error!(
                executor = name,
                error,
                "an executor cannot be read: its tasks wait until it is registered again"
            );
        }
        self.executors = executors.into_iter().map(|e| (e.id, Arc::new(e))).collect();
        self.unreadable = unreadable.into_iter().map(|e| (e.id, e.task_paths)).collect();
        self.find_routes();
        self.queues = load_queues(link)?;
        self.version = Some(version);
        Ok(())
    }

    /// Finds out anew which executor serves which paths. Executors that were registered first come
    /// first.
    fn find_routes(&mut self) {
        let readable =
            self.executors.values().map(|e| (e.id, e.registration.task_paths.as_slice()));
        let unreadable = self.unreadable.iter().map(|(id, paths)| (*id, paths.as_slice()));
        let mut served: Vec<(ExecutorId, &[Pattern])> = readable.chain(unreadable).collect();
        served.sort_by_key(|(id, _)| *id);
        self.routes = Routes::new(
            served.into_iter().flat_map(|(id, paths)| paths.iter().map(move |path| (path, id))),
        );
    }

    /// This transaction has registered an executor.
    pub(super) fn insert(&mut self, executor: Executor) {
        self.unreadable.remove(&executor.id);
        self.executors.insert(executor.id, Arc::new(executor));
        self.find_routes();
    }

    /// This transaction has removed an executor.
    pub(super) fn remove(&mut self, id: ExecutorId) {
        self.executors.remove(&id);
        self.unreadable.remove(&id);
        self.find_routes();
    }

    /// This transaction has changed a queue's settings.
    pub(super) fn set_queue(&mut self, name: &str, settings: QueueSettings) {
        self.queues.insert(name.to_owned(), settings);
    }

    /// This transaction has made this version. If another process made versions since the copy was
    /// read, the copy is left without a version, so that the next transaction reads the other
    /// changes, too.
    pub(super) fn moved_on(&mut self, version: i64) {
        self.version = self.version.filter(|before| before + 1 == version).map(|_| version);
    }

    /// How many queues users have paused or limited.
    pub(super) fn queues_set(&self) -> usize {
        self.queues.values().filter(|queue| **queue != QueueSettings::default()).count()
    }

    /// Makes the next refresh read everything: the state that a rolled-back transaction saw does
    /// not hold.
    pub(super) fn forget(&mut self) {
        self.version = None;
        self.learned.clear();
    }

    pub(super) fn get(&self, id: ExecutorId) -> Option<&Arc<Executor>> {
        self.executors.get(&id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Executor>> {
        self.executors.values()
    }

    pub(super) fn route(&self, task_path: &str) -> Option<ExecutorId> {
        self.routes.find(task_path)
    }

    pub(super) fn queue(&self, name: &str) -> QueueSettings {
        self.queues.get(name).copied().unwrap_or_default()
    }

    /// The queues that are paused or limited, by name.
    pub(super) fn queues_with_settings(&self) -> Vec<String> {
        let set = |queue: &QueueSettings| *queue != QueueSettings::default();
        let set = self.queues.iter().filter(|(_, queue)| set(queue));
        let mut names: Vec<String> = set.map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// The queues whose running tasks have to be counted, with their limits.
    pub(super) fn limited_queues(&self) -> impl Iterator<Item = (&String, u32)> {
        self.queues.iter().filter_map(|(name, queue)| Some((name, queue.concurrency?)))
    }

    /// Sets an executor's circuit here; [`Registry::store_circuits`] writes it.
    pub(super) fn learn(&mut self, id: ExecutorId, circuit: Circuit) {
        if let Some(executor) = self.executors.get_mut(&id) {
            Arc::make_mut(executor).circuit = circuit;
            self.learned.insert(id);
        }
    }

    /// Writes the circuits that this transaction has changed. All processes do so at the end of a
    /// transaction and in the order of ids, so that two of them never wait for each other.
    pub(super) fn store_circuits(&mut self, link: &mut Link<'_>) -> Result<()> {
        if self.learned.is_empty() {
            return Ok(());
        }
        for id in std::mem::take(&mut self.learned) {
            let Some(Circuit { failures, failed_at, held_until, reason }) =
                self.executors.get(&id).map(|executor| &executor.circuit)
            else {
                continue;
            };
            let change = diesel::update(executors::table.find(id.0)).set((
                executors::failures.eq(number(*failures)),
                executors::failed_at.eq(failed_at.map(micros)),
                executors::held_until.eq(held_until.map(micros)),
                executors::hold_reason.eq(reason),
            ));
            on_engine!(&mut *link, c => change.execute(c))?;
        }
        let version = bump(link)?;
        self.moved_on(version);
        Ok(())
    }
}

/// All executors, first registered first.
pub(super) struct Loaded {
    pub(super) executors: Vec<Executor>,
    pub(super) unreadable: Vec<Unreadable>,
}

/// An executor whose row no version of this program has written like that.
pub(super) struct Unreadable {
    id: ExecutorId,
    pub(super) name: String,
    /// Those of its patterns that can be read.
    task_paths: Vec<Pattern>,
    pub(super) error: Error,
}

pub(super) fn load(link: &mut Link<'_>) -> Result<Loaded> {
    let rows: Vec<ExecutorRow> =
        on_engine!(link, c => executors::table.order(executors::id).load(c))?;
    let mut loaded = Loaded { executors: Vec::new(), unreadable: Vec::new() };
    for row in rows {
        let (id, name, task_paths) = row.outline();
        match Executor::try_from(row) {
            Ok(executor) => loaded.executors.push(executor),
            Err(error) => loaded.unreadable.push(Unreadable { id, name, task_paths, error }),
        }
    }
    Ok(loaded)
}

/// The executor with this name.
pub(super) fn load_one(link: &mut Link<'_>, name: &str) -> Result<Option<Executor>> {
    let row = executors::table.filter(executors::name.eq(name));
    let row: Option<ExecutorRow> = on_engine!(link, c => row.first(c).optional())?;
    row.map(Executor::try_from).transpose()
}

/// The settings of queues that have any, by name.
pub(super) fn load_queues(link: &mut Link<'_>) -> Result<HashMap<String, QueueSettings>> {
    let all = queues::table.select((queues::name, queues::paused, queues::concurrency));
    let rows: Vec<(String, bool, Option<i32>)> = on_engine!(link, c => all.load(c))?;
    let settings = |paused, concurrency: Option<i32>| QueueSettings {
        paused,
        concurrency: concurrency.map(count),
    };
    Ok(rows
        .into_iter()
        .map(|(name, paused, concurrency)| (name, settings(paused, concurrency)))
        .collect())
}

/// Makes every process read executors and queues again, and returns the new version.
pub(super) fn bump(link: &mut Link<'_>) -> Result<i64> {
    let bump = diesel::update(routing::table)
        .set(routing::version.eq(routing::version + 1))
        .returning(routing::version);
    Ok(on_engine!(link, c => bump.get_result(c))?)
}

/// Has all waiting tasks routed anew, by the sweep.
pub(super) fn reroute(link: &mut Link<'_>) -> Result<()> {
    let last = super::dialect::last_seq(link)?;
    let restart =
        diesel::update(routing::table).set((routing::next_seq.eq(1), routing::end_seq.eq(last)));
    on_engine!(link, c => restart.execute(c))?;
    Ok(())
}
