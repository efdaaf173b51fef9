use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Timestamp,
    schema::{Digest, TaskPath},
};

/// The bytes of a WebAssembly component.
#[derive(Clone, Debug, ToSchema)]
#[schema(value_type = String, format = Binary)]
pub struct Component(pub Vec<u8>);

/// An installed plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Plugin {
    /// The name it was installed under.
    #[schema(example = "source-extraction")]
    pub name: String,
    /// SHA-256 of the component that new attempts run, in hexadecimal digits.
    pub digest: String,
    /// The component's size.
    pub size_bytes: u64,
    /// The tasks that it describes.
    pub tasks: Vec<PluginTask>,
    /// The active version, and those that were active before it and can be gone back to.
    pub versions: Vec<PluginVersion>,
    /// When it was first installed.
    pub created_at: Timestamp,
    /// When its active version changed last.
    pub updated_at: Timestamp,
}

/// A task that a plugin runs, in its own words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PluginTask {
    /// The task path.
    #[schema(value_type = TaskPath)]
    pub task_path: String,
    /// One line.
    pub summary: String,
    /// More, in Markdown.
    #[schema(required = true)]
    pub description: Option<String>,
    /// `timeout_seconds` where neither the task nor the executor says otherwise.
    #[schema(required = true)]
    pub timeout_seconds: Option<f64>,
    /// `max_attempts` where neither the task nor the executor says otherwise.
    #[schema(required = true)]
    pub max_attempts: Option<u32>,
}

/// A component that was installed as the plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PluginVersion {
    /// SHA-256 of the component.
    pub digest: String,
    /// The component's size.
    pub size_bytes: u64,
    /// When it was installed last.
    pub installed_at: Timestamp,
    /// When it was made the active one last.
    pub activated_at: Timestamp,
    /// Whether new attempts run it.
    pub active: bool,
}

/// All installed plugins, by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PluginList {
    /// The plugins of this page.
    pub items: Vec<Plugin>,
    /// Give it as `cursor` to read on; null on the last page.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// What `POST /plugins/{name}/rollback` takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The version to run from now on; the one that was active before by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Digest>)]
    pub digest: Option<String>,
}
