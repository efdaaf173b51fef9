//! Executors as their table has them, and the way between that and the domain.

use diesel::prelude::*;

use super::{
    error::{Error, Result},
    plugin_row::{self, digest},
    rows::{
        corrupt, count, duration, duration_micros, from_json, micros, nearest_time, number,
        options, options_columns, to_json,
    },
    schema::executors,
};
use crate::domain::{
    Timestamp,
    circuit::Circuit,
    executor::{CallUrl, Executor, ExecutorId, Registration, StoredSecret, Target},
    plugin::ActiveVersion,
    route::Pattern,
};

/// A `concurrency` without a limit: the column has to hold a number.
const NO_LIMIT: u32 = 0;

pub(super) fn concurrency_number(concurrency: Option<u32>) -> i32 {
    number(concurrency.unwrap_or(NO_LIMIT))
}

/// The columns that a registration sets, for insert and update.
#[derive(Debug, Insertable, AsChangeset)]
#[diesel(table_name = executors, treat_none_as_null = true)]
pub(super) struct RegistrationRow<'a> {
    name: &'a str,
    kind: i16,
    task_paths: String,
    concurrency: i32,
    lease_us: i64,
    timeout_us: Option<i64>,
    max_attempts: Option<i32>,
    backoff: Option<String>,
    paused: bool,
    url: Option<&'a str>,
    secret: Option<&'a str>,
    previous_secret: Option<&'a str>,
    plugin: Option<&'a str>,
    plugin_digest: Option<&'a [u8]>,
    plugin_defaults: Option<String>,
    memory_mib: Option<i32>,
    grants: Option<String>,
    echoes_task_id: bool,
    updated_at: i64,
}

impl<'a> RegistrationRow<'a> {
    /// `version` is the plugin's version that an executor of kind wasm is to run.
    pub(super) fn new(
        registration: &'a Registration,
        version: Option<&'a ActiveVersion>,
        now: Timestamp,
    ) -> Result<Self> {
        let patterns: Vec<String> =
            registration.task_paths.iter().map(ToString::to_string).collect();
        let (timeout_us, max_attempts, backoff) = options_columns(&registration.defaults)?;
        let (url, secret, previous_secret, echoes_task_id) = match &registration.target {
            Target::Http { url, secret, previous_secret, echoes_task_id } => {
                (Some(url), Some(secret), previous_secret.as_ref(), *echoes_task_id)
            }
            Target::Worker | Target::Wasm { .. } => (None, None, None, false),
        };
        let (plugin, memory_mib, grants) = match &registration.target {
            Target::Wasm { plugin, memory_mib, grants } => (
                Some(plugin.as_str()),
                Some(number(*memory_mib)),
                Some(plugin_row::grants_text(grants)?),
            ),
            Target::Http { .. } | Target::Worker => (None, None, None),
        };
        Ok(Self {
            name: registration.name.as_str(),
            kind: registration.target.kind_number(),
            task_paths: to_json(&patterns, "task_paths")?,
            concurrency: concurrency_number(registration.concurrency),
            lease_us: duration_micros(registration.lease),
            timeout_us,
            max_attempts,
            backoff,
            paused: registration.paused,
            url: url.map(|url| url.as_url().as_str()),
            secret: secret.map(StoredSecret::as_text),
            previous_secret: previous_secret.map(StoredSecret::as_text),
            plugin,
            plugin_digest: version.map(|version| version.digest.0.as_slice()),
            plugin_defaults: version.map(plugin_row::defaults_text).transpose()?,
            memory_mib,
            grants,
            echoes_task_id,
            updated_at: micros(now),
        })
    }
}

#[derive(Debug, Queryable)]
pub(super) struct ExecutorRow {
    id: i64,
    name: String,
    kind: i16,
    task_paths: String,
    concurrency: i32,
    lease_us: i64,
    timeout_us: Option<i64>,
    max_attempts: Option<i32>,
    backoff: Option<String>,
    paused: bool,
    url: Option<String>,
    secret: Option<String>,
    previous_secret: Option<String>,
    failures: i32,
    failed_at: Option<i64>,
    held_until: Option<i64>,
    hold_reason: Option<String>,
    created_at: i64,
    updated_at: i64,
    plugin: Option<String>,
    plugin_digest: Option<Vec<u8>>,
    plugin_defaults: Option<String>,
    memory_mib: Option<i32>,
    grants: Option<String>,
    echoes_task_id: bool,
}

impl ExecutorRow {
    /// The id, the name and the task paths, as far as they can be read.
    pub(super) fn outline(&self) -> (ExecutorId, String, Vec<Pattern>) {
        let patterns: Vec<String> = from_json(&self.task_paths, "task_paths").unwrap_or_default();
        let patterns = patterns.iter().filter_map(|text| text.parse().ok()).collect();
        (ExecutorId(self.id), self.name.clone(), patterns)
    }
}

impl TryFrom<ExecutorRow> for Executor {
    type Error = Error;

    fn try_from(row: ExecutorRow) -> Result<Self> {
        let wrong =
            |column: &str| corrupt(format!("the executor {} with a wrong {column}", row.id));
        let target = match (row.kind, row.url, row.secret, row.plugin) {
            (0, Some(url), Some(secret), None) => Target::Http {
                url: CallUrl::from_stored(&url).ok_or_else(|| wrong("url"))?,
                secret: secret.parse().map_err(|_invalid| wrong("secret"))?,
                previous_secret: row
                    .previous_secret
                    .map(|secret| secret.parse().map_err(|_invalid| wrong("previous_secret")))
                    .transpose()?,
                echoes_task_id: row.echoes_task_id,
            },
            (1, None, None, None) => Target::Worker,
            (2, None, None, Some(plugin)) => Target::Wasm {
                plugin: plugin.parse().map_err(|_invalid| wrong("plugin"))?,
                memory_mib: row.memory_mib.map(count).ok_or_else(|| wrong("memory_mib"))?,
                grants: plugin_row::grants(row.grants.as_deref().unwrap_or("{}"))?,
            },
            _ => return Err(wrong("kind")),
        };
        let version = match (row.plugin_digest, row.plugin_defaults) {
            (Some(of), Some(defaults)) => Some(ActiveVersion {
                digest: digest(&of)?,
                defaults: plugin_row::defaults(&defaults)?,
            }),
            _ => None,
        };
        let patterns: Vec<String> = from_json(&row.task_paths, "task_paths")?;
        let registration = Registration {
            name: row.name.parse().map_err(|_invalid| wrong("name"))?,
            task_paths: patterns
                .iter()
                .map(|text| text.parse().map_err(|_invalid| wrong("task_paths")))
                .collect::<Result<_>>()?,
            concurrency: Some(count(row.concurrency)).filter(|limit| *limit != NO_LIMIT),
            lease: duration(row.lease_us),
            defaults: options(row.timeout_us, row.max_attempts, row.backoff.as_deref())?,
            paused: row.paused,
            target,
        };
        Ok(Self {
            id: ExecutorId(row.id),
            registration,
            version,
            circuit: Circuit {
                failures: count(row.failures),
                failed_at: row.failed_at.map(nearest_time),
                held_until: row.held_until.map(nearest_time),
                reason: row.hold_reason,
            },
            created_at: nearest_time(row.created_at),
            updated_at: nearest_time(row.updated_at),
        })
    }
}
