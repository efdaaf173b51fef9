//! Registers, changes and removes executors.

use diesel::prelude::*;

use super::{
    error::Result,
    executor_row::{RegistrationRow, concurrency_number},
    link::on_engine,
    plugins, reads, registry,
    rows::{corrupt, micros},
    schema::executors,
    tx::Tx,
};
use crate::domain::{
    circuit::Circuit,
    executor::{Executor, ExecutorId, Registration, Target},
    limits::{EXECUTORS_MAX, TASK_PATHS_IN_ALL_MAX},
    names::ExecutorName,
    plugin::{ActiveVersion, PluginVersion},
};

/// The result of a registration.
#[derive(Clone, Debug)]
pub struct Registered {
    pub executor: Executor,
    /// False if it replaced an executor of the same name.
    pub created: bool,
}

/// Why an executor was not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRegistered {
    /// The registration names a plugin that is not installed.
    NoSuchPlugin,
    /// There are [`EXECUTORS_MAX`] executors already.
    TooManyExecutors,
    /// All executors together would have more task paths than [`TASK_PATHS_IN_ALL_MAX`].
    TooManyTaskPaths,
}

/// A change of an executor. A field that is `None` leaves the value as it is.
#[derive(Clone, Debug)]
pub struct ExecutorChange {
    pub name: ExecutorName,
    pub paused: Option<bool>,
    /// `Some(None)` sets the default of the executor's kind.
    pub concurrency: Option<Option<u32>>,
}

/// The columns of a circuit; the default is a closed one.
#[derive(Debug, Default, AsChangeset)]
#[diesel(table_name = executors, treat_none_as_null = true)]
struct CircuitRow {
    failures: i32,
    failed_at: Option<i64>,
    held_until: Option<i64>,
    hold_reason: Option<String>,
}

/// Registers executors, in place of those that have the same names. A registration closes the
/// circuit: an executor that is being registered is taken to be reachable.
pub(super) fn put(
    tx: &mut Tx<'_>,
    registrations: &[&Registration],
) -> Result<Vec<std::result::Result<Registered, NotRegistered>>> {
    let put = |registration: &&Registration| match refusal(tx, registration) {
        Some(refusal) => Ok(Err(refusal)),
        None => put_one(tx, registration),
    };
    registrations.iter().map(put).collect()
}

/// The reason if there would be too many executors or task paths: every process keeps all of them
/// in memory.
pub(super) fn refusal(tx: &Tx<'_>, registration: &Registration) -> Option<NotRegistered> {
    let others = tx
        .registry
        .all()
        .map(|executor| &executor.registration)
        .filter(|other| other.name != registration.name);
    let (count, paths) =
        others.fold((0, 0), |(count, paths), other| (count + 1, paths + other.task_paths.len()));
    if count >= EXECUTORS_MAX {
        return Some(NotRegistered::TooManyExecutors);
    }
    let paths = paths + registration.task_paths.len();
    (paths > TASK_PATHS_IN_ALL_MAX).then_some(NotRegistered::TooManyTaskPaths)
}

pub(super) fn put_one(
    tx: &mut Tx<'_>,
    registration: &Registration,
) -> Result<std::result::Result<Registered, NotRegistered>> {
    let Ok(version) = version_of(tx, registration)? else {
        return Ok(Err(NotRegistered::NoSuchPlugin));
    };
    let mut registration = registration.clone();
    if let Some(version) = version.as_ref().filter(|_| registration.task_paths.is_empty()) {
        registration.task_paths = plugins::patterns(version);
    }
    let version = version.as_ref().map(ActiveVersion::from);
    store(tx, &registration, version.as_ref()).map(Ok)
}

/// The version of a plugin that the executor is to run; the inner value is `None` if it runs none.
fn version_of(
    tx: &mut Tx<'_>,
    registration: &Registration,
) -> Result<std::result::Result<Option<PluginVersion>, NotRegistered>> {
    let Target::Wasm { plugin, .. } = &registration.target else {
        return Ok(Ok(None));
    };
    let plugin = plugins::one(&mut tx.link, plugin.as_str())?;
    let version = plugin.as_ref().and_then(|plugin| plugin.active_version());
    Ok(version.cloned().map(Some).ok_or(NotRegistered::NoSuchPlugin))
}

fn store(
    tx: &mut Tx<'_>,
    registration: &Registration,
    version: Option<&ActiveVersion>,
) -> Result<Registered> {
    let row = RegistrationRow::new(registration, version, tx.now)?;
    let known = executors::table
        .filter(executors::name.eq(registration.name.as_str()))
        .select(executors::id);
    let known: Option<i64> = on_engine!(&mut tx.link, c => known.first(c).optional())?;
    let id = if let Some(id) = known {
        let change = diesel::update(executors::table.find(id)).set((row, CircuitRow::default()));
        on_engine!(&mut tx.link, c => change.execute(c))?;
        id
    } else {
        let values = (row, executors::created_at.eq(micros(tx.now)));
        on_engine!(&mut tx.link, c => diesel::insert_into(executors::table)
            .values(values)
            .returning(executors::id)
            .get_result(c))?
    };
    // Waiting tasks have to be routed anew only if the task paths have changed.
    let before = tx.registry.all().find(|executor| executor.registration.name == registration.name);
    let same = before.is_some_and(|old| old.registration.task_paths == registration.task_paths);
    changed(tx, !same)?;
    let executor = reads::executor(&mut tx.link, Some(id))?;
    let executor = executor.ok_or_else(|| corrupt("no such executor"))?;
    tx.registry.insert(executor.clone());
    Ok(Registered { executor, created: known.is_none() })
}

/// Changes executors; `None` for each that is not registered.
pub(super) fn change(
    tx: &mut Tx<'_>,
    changes: &[&ExecutorChange],
) -> Result<Vec<Option<Executor>>> {
    changes.iter().map(|change| change_one(tx, change)).collect()
}

fn change_one(tx: &mut Tx<'_>, change: &ExecutorChange) -> Result<Option<Executor>> {
    let named = executors::table.filter(executors::name.eq(change.name.as_str()));
    let id = named.select(executors::id);
    let id: Option<i64> = on_engine!(&mut tx.link, c => id.first(c).optional())?;
    let Some(mut executor) = reads::executor(&mut tx.link, id)? else {
        return match id {
            Some(_) => Err(corrupt("an executor that cannot be read")),
            None => Ok(None),
        };
    };
    if change.paused.is_none() && change.concurrency.is_none() {
        return Ok(Some(executor));
    }
    let registration = &mut executor.registration;
    registration.paused = change.paused.unwrap_or(registration.paused);
    if let Some(concurrency) = change.concurrency {
        registration.concurrency = concurrency.or(registration.target.concurrency_default());
    }
    // A resumed executor is tried at once, whatever kept calls from it.
    let closed = (change.paused == Some(false)).then(CircuitRow::default);
    if closed.is_some() {
        executor.circuit = Circuit::default();
    }
    executor.updated_at = tx.now;
    let values = (
        executors::paused.eq(registration.paused),
        executors::concurrency.eq(concurrency_number(registration.concurrency)),
        executors::updated_at.eq(micros(tx.now)),
    );
    let row = diesel::update(executors::table.find(executor.id.0)).set((values, closed));
    on_engine!(&mut tx.link, c => row.execute(c))?;
    changed(tx, false)?;
    tx.registry.insert(executor.clone());
    Ok(Some(executor))
}

/// Removes executors, and returns which of them were registered. Their attempts go on, and tasks
/// that wait for them are routed anew.
pub(super) fn remove(tx: &mut Tx<'_>, names: &[&ExecutorName]) -> Result<Vec<bool>> {
    names
        .iter()
        .map(|name| {
            let gone = diesel::delete(executors::table.filter(executors::name.eq(name.as_str())))
                .returning(executors::id);
            let gone: Option<i64> = on_engine!(&mut tx.link, c => gone.get_result(c).optional())?;
            if let Some(id) = gone {
                changed(tx, true)?;
                tx.registry.remove(ExecutorId(id));
            }
            Ok(gone.is_some())
        })
        .collect()
}

/// Tells every process that executors have changed. The caller changes this process's copy itself:
/// to read all executors again for one change would take longer the more there are.
fn changed(tx: &mut Tx<'_>, reroute: bool) -> Result<()> {
    if reroute {
        registry::reroute(&mut tx.link)?;
    }
    let version = registry::bump(&mut tx.link)?;
    tx.registry.moved_on(version);
    tx.effects.work.everybody = true;
    tx.effects.sweep_by(tx.now);
    Ok(())
}
