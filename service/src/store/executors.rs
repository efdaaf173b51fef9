//! Registers executors and forgets them.

use diesel::prelude::*;

use super::{
    error::Result,
    executor_row::RegistrationRow,
    link::on_engine,
    plugins, registry,
    rows::{corrupt, micros},
    schema::executors,
    tx::Tx,
};
use crate::domain::{
    executor::{Executor, ExecutorId, Registration, Target},
    names::ExecutorName,
    plugin::{ActiveVersion, PluginVersion},
};

/// What registering did.
#[derive(Clone, Debug)]
pub struct Registered {
    pub executor: Executor,
    pub created: bool,
}

/// The registration names a plugin that is not installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSuchPlugin;

/// Registers executors anew or in place of what was registered under their names. A new
/// registration closes the circuit: whoever registers is there.
pub(super) fn put(
    tx: &mut Tx<'_>,
    registrations: &[&Registration],
) -> Result<Vec<std::result::Result<Registered, NoSuchPlugin>>> {
    registrations.iter().map(|registration| put_one(tx, registration)).collect()
}

pub(super) fn put_one(
    tx: &mut Tx<'_>,
    registration: &Registration,
) -> Result<std::result::Result<Registered, NoSuchPlugin>> {
    let Ok(version) = version_of(tx, registration)? else {
        return Ok(Err(NoSuchPlugin));
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
) -> Result<std::result::Result<Option<PluginVersion>, NoSuchPlugin>> {
    let Target::Wasm { plugin, .. } = &registration.target else {
        return Ok(Ok(None));
    };
    let plugin = plugins::one(&mut tx.link, plugin.as_str())?;
    let version = plugin.as_ref().and_then(|plugin| plugin.active_version());
    Ok(version.cloned().map(Some).ok_or(NoSuchPlugin))
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
    let executor = tx.registry.get(ExecutorId(id)).ok_or_else(|| corrupt("no such executor"))?;
    Ok(Registered { executor: Executor::clone(executor), created: known.is_none() })
}

/// Forgets executors and says which were there. What runs there goes on; what waits for them is
/// routed anew.
pub(super) fn remove(tx: &mut Tx<'_>, names: &[&ExecutorName]) -> Result<Vec<bool>> {
    names
        .iter()
        .map(|name| {
            let gone = diesel::delete(executors::table.filter(executors::name.eq(name.as_str())));
            let found = on_engine!(&mut tx.link, c => gone.execute(c))? > 0;
            if found {
                changed(tx, true)?;
            }
            Ok(found)
        })
        .collect()
}

fn changed(tx: &mut Tx<'_>, reroute: bool) -> Result<()> {
    if reroute {
        registry::reroute(&mut tx.link)?;
    }
    let version = registry::bump(&mut tx.link)?;
    tx.registry.forget();
    tx.registry.refresh(&mut tx.link, version)?;
    tx.effects.work.everybody = true;
    tx.effects.sweep_by(tx.now);
    Ok(())
}
