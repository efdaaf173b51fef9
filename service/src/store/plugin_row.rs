//! Plugins as their tables have them, and the way between that and the domain.

use std::collections::{BTreeMap, HashMap};

use diesel::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    error::{Error, Result},
    rows::{corrupt, count, duration, duration_micros, from_json, nearest_time, number, to_json},
    schema::plugin_versions,
};
use crate::domain::{
    grants::Grants,
    plugin::{ActiveVersion, Description, Digest, PluginTask, PluginVersion},
    task::Options,
};

#[derive(Debug, Queryable)]
pub(super) struct PluginRow {
    pub(super) name: String,
    pub(super) created_at: i64,
    pub(super) updated_at: i64,
}

/// A version, without its component.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = plugin_versions)]
pub(super) struct VersionRow {
    digest: Vec<u8>,
    bytes: i64,
    tasks: String,
    installed_at: i64,
    activated_at: i64,
}

impl TryFrom<VersionRow> for PluginVersion {
    type Error = Error;

    fn try_from(row: VersionRow) -> Result<Self> {
        Ok(Self {
            digest: digest(&row.digest)?,
            bytes: u64::try_from(row.bytes).unwrap_or(0),
            description: description(&row.tasks)?,
            installed_at: nearest_time(row.installed_at),
            activated_at: nearest_time(row.activated_at),
        })
    }
}

pub(super) fn digest(bytes: &[u8]) -> Result<Digest> {
    let wrong = |_wrong_length| corrupt("a digest that is not 32 bytes");
    bytes.try_into().map(Digest).map_err(wrong)
}

#[derive(Serialize, Deserialize)]
struct StoredTask {
    path: String,
    summary: String,
    description: Option<String>,
    #[serde(flatten)]
    defaults: StoredDefaults,
}

#[derive(Serialize, Deserialize)]
struct StoredDefaults {
    timeout_us: Option<i64>,
    max_attempts: Option<i32>,
}

impl From<Options> for StoredDefaults {
    fn from(options: Options) -> Self {
        Self {
            timeout_us: options.timeout.map(duration_micros),
            max_attempts: options.max_attempts.map(number),
        }
    }
}

impl From<StoredDefaults> for Options {
    fn from(stored: StoredDefaults) -> Self {
        Self {
            timeout: stored.timeout_us.map(duration),
            max_attempts: stored.max_attempts.map(count),
            backoff: None,
        }
    }
}

pub(super) fn description_text(description: &Description) -> Result<String> {
    let stored: Vec<StoredTask> = description
        .tasks()
        .iter()
        .map(|task| StoredTask {
            path: task.path.as_str().to_owned(),
            summary: task.summary.clone(),
            description: task.description.clone(),
            defaults: task.defaults.into(),
        })
        .collect();
    to_json(&stored, "tasks")
}

fn description(text: &str) -> Result<Description> {
    let wrong = |_invalid| corrupt("tasks of a plugin that are not as expected");
    let tasks = from_json::<Vec<StoredTask>>(text, "tasks")?
        .into_iter()
        .map(|task| {
            Ok(PluginTask {
                path: task.path.parse().map_err(wrong)?,
                summary: task.summary,
                description: task.description,
                defaults: task.defaults.into(),
            })
        })
        .collect::<Result<_>>()?;
    Description::new(tasks).map_err(wrong)
}

pub(super) fn defaults_text(version: &ActiveVersion) -> Result<String> {
    let stored: BTreeMap<&str, StoredDefaults> = version
        .defaults
        .iter()
        .map(|(path, defaults)| (path.as_str(), StoredDefaults::from(*defaults)))
        .collect();
    to_json(&stored, "plugin_defaults")
}

pub(super) fn defaults(text: &str) -> Result<HashMap<String, Options>> {
    let stored: HashMap<String, StoredDefaults> = from_json(text, "plugin_defaults")?;
    Ok(stored.into_iter().map(|(path, defaults)| (path, defaults.into())).collect())
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct StoredGrants {
    http: Vec<String>,
    directories: Vec<String>,
    environment: BTreeMap<String, String>,
}

pub(super) fn grants_text(grants: &Grants) -> Result<String> {
    let stored = StoredGrants {
        http: grants.http.iter().map(ToString::to_string).collect(),
        directories: grants.directories.iter().map(ToString::to_string).collect(),
        environment: grants.environment.clone(),
    };
    to_json(&stored, "grants")
}

pub(super) fn grants(text: &str) -> Result<Grants> {
    let wrong = |_invalid| corrupt("grants that are not as expected");
    let StoredGrants { http, directories, environment } = from_json(text, "grants")?;
    Ok(Grants {
        http: http.iter().map(|host| host.parse().map_err(wrong)).collect::<Result<_>>()?,
        directories: directories
            .iter()
            .map(|name| name.parse().map_err(wrong))
            .collect::<Result<_>>()?,
        environment,
    })
}
