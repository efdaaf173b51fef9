use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Backoff, Timestamp, bounded,
    number::whole,
    object,
    queue::present,
    schema::{Name, Secret, TaskPathPattern},
};

/// How an executor gets its tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExecutorKind {
    /// The service calls `url`.
    #[default]
    Http,
    /// Workers ask for tasks with `POST /executors/{name}/leases`.
    Worker,
    /// The service runs `plugin` in a sandbox.
    Wasm,
}

/// The body of `PATCH /executors/{name}`; a member that is left out stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecutorChange {
    /// Starts none of its tasks while true; those that run go on. False also ends a hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// How many of its tasks may run at once, 1 to 10,000; null: the default of its kind.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 10000)]
    pub concurrency: Option<Option<i64>>,
}

/// What `PUT /executors/{name}` takes. It replaces the whole registration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecutorRequest {
    /// How the executor gets its tasks.
    pub kind: ExecutorKind,
    /// 1 to 1,000 task paths that it serves: exact (`myapp.tasks.mail`), by prefix
    /// (`myapp.tasks.*`), or all (`*`). Of several executors the most specific one gets the task.
    /// One of kind `wasm` may leave them out, and serves what its plugin describes, also what
    /// later versions of it describe.
    #[serde(
        default,
        deserialize_with = "bounded::list::<1_000, _, _>",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schema(value_type = Vec<TaskPathPattern>, max_items = 1000, example = json!(["myapp.tasks.*"]))]
    pub task_paths: Vec<String>,
    /// Where an executor of kind `http` is called, http or https. Other kinds have neither
    /// address nor secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^https?://", max_length = 2048, example = "http://127.0.0.1:9000/tasks")]
    pub url: Option<String>,
    /// Signs each call: `whsec_` and the base64 of 24 to 64 bytes (Standard Webhooks). Never
    /// shown again. Where it is left out, an executor that is called already keeps its secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Secret>)]
    pub secret: Option<String>,
    /// Signs each call as well, so that a secret can be changed without a gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Secret>)]
    pub previous_secret: Option<String>,
    /// Its answers of success carry the task's id in the header `nightshift-task-id`. One without
    /// is not the executor's then, but that of something else at its address, which has not begun
    /// the work: the task is sent again later, or, if it may be tried only once, fails as `lost`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub echoes_task_id: bool,
    /// The installed plugin that an executor of kind `wasm` runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Name>)]
    pub plugin: Option<String>,
    /// MiB of memory that one run of the plugin may have, 1 to 4,096; 128 by default.
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 4096, example = 128)]
    pub memory_mib: Option<i64>,
    /// What the plugin may reach; by default nothing.
    #[serde(
        default,
        deserialize_with = "object::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub grants: Option<Grants>,
    /// How many of its tasks may run at once, 1 to 10,000; by default as many as are
    /// asked for for kind `worker`, and 10 for the others.
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10000, example = 10)]
    pub concurrency: Option<i64>,
    /// How long its lease lasts unless it is renewed, 1 to 3,600; 30 by default.
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 3600, example = 30)]
    pub lease_seconds: Option<i64>,
    /// The default of its tasks' `timeout_seconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0.0, maximum = 604_800)]
    pub timeout_seconds: Option<f64>,
    /// The default of its tasks' `max_attempts`.
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    pub max_attempts: Option<i64>,
    /// The default of its tasks' `backoff`.
    #[serde(
        default,
        deserialize_with = "object::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub backoff: Option<Backoff>,
    /// Starts nothing while true; what runs goes on.
    #[serde(default)]
    pub paused: bool,
}

/// What a plugin may reach, up to 100 of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    /// Hosts that it may send HTTP requests to: `api.example.org` (with the scheme's own port),
    /// `api.example.org:8443`, `*.example.org` (what lies below). A name has to lead to public
    /// addresses; a host in a private network is granted as an address (`10.0.0.7:8000`).
    #[serde(
        default,
        deserialize_with = "bounded::list::<100, _, _>",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schema(max_items = 100, example = json!(["api.example.org"]))]
    pub http: Vec<String>,
    /// Names of directories in the service's setting `plugin_directories`. The plugin reads each
    /// as `/data/NAME`, and cannot write.
    #[serde(
        default,
        deserialize_with = "bounded::list::<100, _, _>",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schema(value_type = Vec<Name>, max_items = 100, example = json!(["images"]))]
    pub directories: Vec<String>,
    /// Environment variables and their values, which are never shown again. Null leaves the value
    /// that the executor has.
    #[serde(
        default,
        deserialize_with = "bounded::map::<100, _, _>",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub environment: BTreeMap<String, Option<String>>,
}

/// What a plugin may reach, without values that may be secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Granted {
    /// Hosts that it may send HTTP requests to.
    pub http: Vec<String>,
    /// Directories that it may read.
    pub directories: Vec<String>,
    /// Names of its environment variables.
    pub environment: Vec<String>,
}

/// A registered executor, without its secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Executor {
    /// The name it was registered under.
    pub name: String,
    /// How it gets its tasks.
    pub kind: ExecutorKind,
    /// The task paths that it serves.
    pub task_paths: Vec<String>,
    /// Where it is called.
    #[schema(required = true)]
    pub url: Option<String>,
    /// Only what carries the task's id in the header `nightshift-task-id` is taken as its success.
    #[serde(default)]
    #[schema(required = true)]
    pub echoes_task_id: bool,
    /// The plugin that it runs.
    #[schema(required = true)]
    pub plugin: Option<String>,
    /// SHA-256 of the plugin's active version.
    #[schema(required = true)]
    pub plugin_digest: Option<String>,
    /// MiB of memory that one run of the plugin may have.
    #[schema(required = true)]
    pub memory_mib: Option<u32>,
    /// What the plugin may reach.
    #[schema(required = true)]
    pub grants: Option<Granted>,
    /// How many of its tasks may run at once; null: no limit.
    #[schema(required = true)]
    pub concurrency: Option<u32>,
    /// How long its lease lasts unless it is renewed.
    pub lease_seconds: u32,
    /// The default of its tasks' `timeout_seconds`.
    #[schema(required = true)]
    pub timeout_seconds: Option<f64>,
    /// The default of its tasks' `max_attempts`.
    #[schema(required = true)]
    pub max_attempts: Option<u32>,
    /// The default of its tasks' `backoff`.
    #[schema(required = true)]
    pub backoff: Option<Backoff>,
    /// Starts nothing while true.
    pub paused: bool,
    /// Why nothing is sent to it at the moment; null when all is well.
    #[schema(required = true)]
    pub hold: Option<Hold>,
    /// When it was first registered.
    pub created_at: Timestamp,
    /// When it was last registered.
    pub updated_at: Timestamp,
}

/// An executor that could not be reached, or asked to wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Hold {
    /// Nothing is sent before; then one task, and the rest when that one got through.
    pub until: Timestamp,
    /// Deliveries that failed in a row.
    pub failures: u32,
    /// What happened.
    pub reason: String,
}

/// All registered executors, by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExecutorList {
    /// The executors of this page.
    pub items: Vec<Executor>,
    /// Give it as `cursor` to read on; null on the last page.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}
