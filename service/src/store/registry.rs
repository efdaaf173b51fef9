//! The writer's copy of the registered executors, renewed when the database's version moves on.

use std::{collections::BTreeMap, sync::Arc};

use diesel::prelude::*;

use super::{
    error::Result,
    executor_row::ExecutorRow,
    link::{Link, on_engine},
    schema::{executors, routing},
};
use crate::domain::{
    executor::{Executor, ExecutorId},
    route::Routes,
};

#[derive(Debug)]
pub(super) struct Registry {
    version: Option<i64>,
    executors: BTreeMap<ExecutorId, Arc<Executor>>,
    routes: Routes<ExecutorId>,
}

impl Registry {
    pub(super) fn empty() -> Self {
        Self { version: None, executors: BTreeMap::new(), routes: Routes::new([]) }
    }

    /// Reads the executors again if they changed since the last time.
    pub(super) fn refresh(&mut self, link: &mut Link<'_>) -> Result<()> {
        let version = super::dialect::routing_version(link)?;
        if self.version == Some(version) {
            return Ok(());
        }
        let executors = load(link)?;
        self.routes = Routes::new(executors.iter().flat_map(|executor| {
            executor.registration.task_paths.iter().map(|pattern| (pattern, executor.id))
        }));
        self.executors = executors.into_iter().map(|e| (e.id, Arc::new(e))).collect();
        self.version = Some(version);
        Ok(())
    }

    /// Makes the next refresh read everything: what a rolled-back transaction saw is void.
    pub(super) fn forget(&mut self) {
        self.version = None;
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
}

/// All executors, first registered first.
pub(super) fn load(link: &mut Link<'_>) -> Result<Vec<Executor>> {
    let rows: Vec<ExecutorRow> =
        on_engine!(link, c => executors::table.order(executors::id).load(c))?;
    rows.into_iter().map(Executor::try_from).collect()
}

/// Tells every process that executors changed. With `reroute`, waiting tasks are routed anew.
pub(super) fn changed(link: &mut Link<'_>, reroute: bool) -> Result<()> {
    let bump = diesel::update(routing::table).set(routing::version.eq(routing::version + 1));
    on_engine!(link, c => bump.execute(c))?;
    if reroute {
        let last = super::dialect::last_seq(link)?;
        let restart = diesel::update(routing::table)
            .set((routing::next_seq.eq(1), routing::end_seq.eq(last)));
        on_engine!(link, c => restart.execute(c))?;
    }
    Ok(())
}
