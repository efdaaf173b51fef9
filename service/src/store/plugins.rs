//! Stores plugins: their components, the tasks that they describe, and which version runs.
//!
//! The version that was activated last is the active one. The transaction that activates it also
//! writes it into the rows of the executors that run the plugin, so that attempts that begin later
//! run it.

use diesel::prelude::*;

use super::{
    error::{Error, Result},
    executors::{self, NotRegistered},
    link::{Link, on_engine},
    plugin_row::{PluginRow, VersionRow, description_text},
    rows::{corrupt, micros, nearest_time},
    schema::{plugin_versions, plugins},
    tx::Tx,
};
use crate::domain::{
    executor::{CONCURRENCY_DEFAULT, LEASE_DEFAULT, Registration, Target},
    grants::Grants,
    limits::OLD_VERSIONS_MAX,
    names::{ExecutorName, PluginName},
    plugin::{Description, Digest, MEMORY_MIB_DEFAULT, NewPlugin, Plugin, PluginVersion},
    route::Pattern,
    task::Options,
};

/// The result of an installation.
#[derive(Clone, Debug)]
pub struct Installed {
    pub plugin: Plugin,
    /// False if a plugin of this name was there already.
    pub created: bool,
}

/// Which version is to run from now on.
#[derive(Clone, Debug)]
pub struct ActivateRequest {
    pub name: PluginName,
    /// `None` means the version that was active before.
    pub digest: Option<Digest>,
}

/// The answer to a request to run another version.
#[derive(Clone, Debug)]
pub enum ActivateAnswer {
    Done(Plugin),
    NoPlugin,
    NoVersion,
}

/// The answer to a request to delete a plugin.
#[derive(Clone, Debug)]
pub enum UninstallAnswer {
    Done,
    NoPlugin,
    /// An executor other than the plugin's own runs it.
    InUse(ExecutorName),
}

/// Stores components and makes them the active versions. Running attempts go on with the version
/// that they have.
pub(super) fn install(
    tx: &mut Tx<'_>,
    news: &[&NewPlugin],
) -> Result<Vec<std::result::Result<Installed, NotRegistered>>> {
    let install = |new: &&NewPlugin| {
        let mut own = own_registration(&new.name)?;
        own.task_paths = described(&new.description);
        match executors::refusal(tx, &own).filter(|_| !is_registered(tx, &own)) {
            Some(refusal) => Ok(Err(refusal)),
            None => install_one(tx, new).map(Ok),
        }
    };
    news.iter().map(install).collect()
}

fn is_registered(tx: &Tx<'_>, registration: &Registration) -> bool {
    tx.registry.all().any(|executor| executor.registration.name == registration.name)
}

fn install_one(tx: &mut Tx<'_>, new: &NewPlugin) -> Result<Installed> {
    let before = one(&mut tx.link, new.name.as_str())?;
    let now = micros(tx.now);
    if before.is_none() {
        let row = (
            plugins::name.eq(new.name.as_str()),
            plugins::created_at.eq(now),
            plugins::updated_at.eq(now),
        );
        on_engine!(&mut tx.link, c => diesel::insert_into(plugins::table).values(row).execute(c))?;
    }
    let known = before.iter().flat_map(|plugin| &plugin.versions);
    if known.into_iter().any(|version| version.digest == new.digest) {
        let again = plugin_versions::table.find((new.name.as_str(), new.digest.0.as_slice()));
        let again = diesel::update(again).set(plugin_versions::installed_at.eq(now));
        on_engine!(&mut tx.link, c => again.execute(c))?;
    } else {
        let row = (
            plugin_versions::plugin_name.eq(new.name.as_str()),
            plugin_versions::digest.eq(new.digest.0.as_slice()),
            plugin_versions::bytes.eq(i64::try_from(new.component.len()).unwrap_or(i64::MAX)),
            plugin_versions::tasks.eq(description_text(&new.description)?),
            plugin_versions::installed_at.eq(now),
            plugin_versions::activated_at.eq(now),
            plugin_versions::component.eq(new.component.as_ref()),
        );
        let insert = diesel::insert_into(plugin_versions::table).values(row);
        on_engine!(&mut tx.link, c => insert.execute(c))?;
    }
    let plugin = activate_version(tx, &new.name, new.digest, before.as_ref())?;
    drop_old_versions(tx, &plugin)?;
    let own = own_registration(&new.name)?;
    if !is_registered(tx, &own) {
        executors::put_one(tx, &own)?.map_err(|_gone| corrupt("no such plugin"))?;
    }
    Ok(Installed { plugin: stored(tx, &new.name)?, created: before.is_none() })
}

/// Makes other stored versions the active ones.
pub(super) fn activate(
    tx: &mut Tx<'_>,
    requests: &[&ActivateRequest],
) -> Result<Vec<ActivateAnswer>> {
    requests.iter().map(|request| activate_one(tx, request)).collect()
}

fn activate_one(tx: &mut Tx<'_>, request: &ActivateRequest) -> Result<ActivateAnswer> {
    let Some(before) = one(&mut tx.link, request.name.as_str())? else {
        return Ok(ActivateAnswer::NoPlugin);
    };
    let mut versions = before.versions.iter();
    let wanted = match request.digest {
        Some(digest) => versions.find(|version| version.digest == digest),
        None => versions.nth(1),
    };
    let Some(PluginVersion { digest, .. }) = wanted else {
        return Ok(ActivateAnswer::NoVersion);
    };
    let plugin = activate_version(tx, &request.name, *digest, Some(&before))?;
    Ok(ActivateAnswer::Done(plugin))
}

/// Makes a stored version the active one, for the plugin and for its executors.
fn activate_version(
    tx: &mut Tx<'_>,
    name: &PluginName,
    digest: Digest,
    before: Option<&Plugin>,
) -> Result<Plugin> {
    let change = diesel::update(plugins::table.find(name.as_str()))
        .set(plugins::updated_at.eq(micros(tx.now)));
    on_engine!(&mut tx.link, c => change.execute(c))?;
    // The times give the versions their order, so they differ even in one transaction.
    let last = before.and_then(|plugin| plugin.versions.first()).map(|v| micros(v.activated_at));
    let now = last.map_or(micros(tx.now), |last| micros(tx.now).max(last + 1));
    let version = plugin_versions::table.find((name.as_str(), digest.0.as_slice()));
    let change = diesel::update(version).set(plugin_versions::activated_at.eq(now));
    on_engine!(&mut tx.link, c => change.execute(c))?;
    let plugin = stored(tx, name)?;
    let described = before.and_then(Plugin::active_version).map(patterns);
    for mut registration in executors_of(tx, name) {
        // Paths that are those of the old version become those of the new one. Others were chosen
        // by a user, and stay.
        if described.as_ref() == Some(&registration.task_paths) {
            registration.task_paths = Vec::new();
        }
        executors::put_one(tx, &registration)?.map_err(|_gone| corrupt("no such plugin"))?;
    }
    Ok(plugin)
}

/// The task paths that a version describes.
pub(super) fn patterns(version: &PluginVersion) -> Vec<Pattern> {
    described(&version.description)
}

fn described(description: &Description) -> Vec<Pattern> {
    description.tasks().iter().map(|task| Pattern::Exact(task.path.clone())).collect()
}

fn executors_of(tx: &Tx<'_>, name: &PluginName) -> Vec<Registration> {
    let runs_it = |registration: &&Registration| match &registration.target {
        Target::Wasm { plugin, .. } => plugin == name,
        Target::Http { .. } | Target::Worker => false,
    };
    tx.registry.all().map(|executor| &executor.registration).filter(runs_it).cloned().collect()
}

/// The executor that runs a plugin's tasks unless a user registers another one.
fn own_registration(name: &PluginName) -> Result<Registration> {
    Ok(Registration {
        name: own_name(name)?,
        task_paths: Vec::new(),
        concurrency: Some(CONCURRENCY_DEFAULT),
        lease: LEASE_DEFAULT,
        defaults: Options::default(),
        paused: false,
        target: Target::Wasm {
            plugin: name.clone(),
            memory_mib: MEMORY_MIB_DEFAULT,
            grants: Grants::default(),
        },
    })
}

/// A plugin's own executor has its name. The same rule holds for the names of both.
fn own_name(name: &PluginName) -> Result<ExecutorName> {
    name.as_str().parse().map_err(|_invalid| corrupt("a plugin's name"))
}

fn drop_old_versions(tx: &mut Tx<'_>, plugin: &Plugin) -> Result<()> {
    for version in plugin.versions.iter().skip(1 + OLD_VERSIONS_MAX) {
        let gone = plugin_versions::table.find((plugin.name.as_str(), version.digest.0.as_slice()));
        on_engine!(&mut tx.link, c => diesel::delete(gone).execute(c))?;
    }
    Ok(())
}

/// Deletes plugins, each with the executor of its name.
pub(super) fn uninstall(tx: &mut Tx<'_>, names: &[&PluginName]) -> Result<Vec<UninstallAnswer>> {
    names.iter().map(|name| uninstall_one(tx, name)).collect()
}

fn uninstall_one(tx: &mut Tx<'_>, name: &PluginName) -> Result<UninstallAnswer> {
    let own = own_name(name)?;
    let used = executors_of(tx, name);
    if let Some(other) = used.iter().find(|registration| registration.name != own) {
        return Ok(UninstallAnswer::InUse(other.name.clone()));
    }
    let gone = diesel::delete(plugins::table.find(name.as_str()));
    if on_engine!(&mut tx.link, c => gone.execute(c))? == 0 {
        return Ok(UninstallAnswer::NoPlugin);
    }
    if !used.is_empty() {
        executors::remove(tx, &[&own])?;
    }
    Ok(UninstallAnswer::Done)
}

fn stored(tx: &mut Tx<'_>, name: &PluginName) -> Result<Plugin> {
    one(&mut tx.link, name.as_str())?.ok_or_else(|| corrupt("a plugin that was just stored"))
}

/// The plugin with this name.
pub(super) fn one(link: &mut Link<'_>, name: &str) -> Result<Option<Plugin>> {
    let row = plugins::table.find(name);
    let row: Option<PluginRow> = on_engine!(&mut *link, c => row.first(c).optional())?;
    row.map(|row| with_versions(link, &row)).transpose()
}

/// All plugins, by name.
pub(super) fn all(link: &mut Link<'_>) -> Result<Vec<Plugin>> {
    let rows: Vec<PluginRow> =
        on_engine!(&mut *link, c => plugins::table.order(plugins::name).load(c))?;
    let mut plugins = Vec::with_capacity(rows.len());
    for row in &rows {
        match with_versions(link, row) {
            // A request for this plugin alone says what is wrong with it.
            Err(Error::Corrupt(_)) => {}
            read => plugins.push(read?),
        }
    }
    Ok(plugins)
}

fn with_versions(link: &mut Link<'_>, row: &PluginRow) -> Result<Plugin> {
    let versions = plugin_versions::table
        .filter(plugin_versions::plugin_name.eq(&row.name))
        .order(plugin_versions::activated_at.desc());
    let versions: Vec<VersionRow> =
        on_engine!(link, c => versions.select(VersionRow::as_select()).load(c))?;
    Ok(Plugin {
        name: row.name.parse().map_err(|_invalid| corrupt("a plugin's name"))?,
        versions: versions.into_iter().map(TryInto::try_into).collect::<Result<_>>()?,
        created_at: nearest_time(row.created_at),
        updated_at: nearest_time(row.updated_at),
    })
}

/// A stored component, of whatever plugin.
pub(super) fn component(link: &mut Link<'_>, digest: Digest) -> Result<Option<Vec<u8>>> {
    let component = plugin_versions::table
        .filter(plugin_versions::digest.eq(digest.0.as_slice()))
        .select(plugin_versions::component);
    Ok(on_engine!(link, c => component.first(c).optional())?)
}
