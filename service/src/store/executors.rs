//! Registers executors and forgets them.

use diesel::prelude::*;

use super::{
    error::Result,
    executor_row::RegistrationRow,
    link::on_engine,
    plugins, reads, registry,
    rows::{corrupt, micros},
    schema::executors,
    tx::Tx,
};
use crate::domain::{
    executor::{Executor, ExecutorId, Registration, Target},
    limits::{EXECUTORS_MAX, TASK_PATHS_IN_ALL_MAX},
    names::ExecutorName,
    plugin::{ActiveVersion, PluginVersion},
};

/// What registering did.
#[derive(Clone, Debug)]
pub struct Registered {
    pub executor: Executor,
    pub created: bool,
}

/// Why nothing was registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRegistered {
    /// The registration names a plugin that is not installed.
    NoSuchPlugin,
    /// [`EXECUTORS_MAX`] are registered.
    TooManyExecutors,
    /// All executors together would have more than [`TASK_PATHS_IN_ALL_MAX`].
    TooManyTaskPaths,
}

/// Registers executors anew or in place of what was registered under their names. A new
/// registration closes the circuit: whoever registers is there.
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

/// Whether there would be too many executors or task paths: every process keeps all of them.
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

/// The version that it is to run, if it runs a plugin.
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
        let circuit = (
            executors::failures.eq(0),
            executors::failed_at.eq(None::<i64>),
            executors::held_until.eq(None::<i64>),
            executors::hold_reason.eq(None::<String>),
        );
        let change = diesel::update(executors::table.find(id)).set((row, circuit));
        on_engine!(&mut tx.link, c => change.execute(c))?;
        id
    } else {
        let values = (row, executors::created_at.eq(micros(tx.now)));
        on_engine!(&mut tx.link, c => diesel::insert_into(executors::table)
            .values(values)
            .returning(executors::id)
            .get_result(c))?
    };
    // Who serves which path decides where waiting tasks belong, and nothing else does.
    let before = tx.registry.all().find(|executor| executor.registration.name == registration.name);
    let same = before.is_some_and(|old| old.registration.task_paths == registration.task_paths);
    changed(tx, !same)?;
    let executor = reads::executor(&mut tx.link, Some(id))?;
    let executor = executor.ok_or_else(|| corrupt("no such executor"))?;
    tx.registry.insert(executor.clone());
    Ok(Registered { executor, created: known.is_none() })
}

/// Forgets executors and says which were there. What runs there goes on; what waits for them is
/// routed anew.
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

/// Tells every process that executors are others now. This one's copy is changed by the caller: to
/// read all of them again for one would take the longer the more there are.
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
