//! A plugin that is ready to run, and the description of its tasks.

use std::{fmt, sync::Arc, time::Duration};

use thiserror::Error;

use crate::{
    bindings::{PluginPre, nightshift::plugin::task_types},
    fault::Fault,
    state::State,
};

/// A plugin that is ready to run. Clones share its machine code, which is kept as long as one of
/// them lives.
#[derive(Clone)]
pub struct Plugin(Arc<PluginPre<State>>);

impl Plugin {
    pub(crate) fn new(pre: PluginPre<State>) -> Self {
        Self(Arc::new(pre))
    }

    pub(crate) fn pre(&self) -> &PluginPre<State> {
        &self.0
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plugin(..)")
    }
}

/// Why a component cannot be used as a plugin.
#[derive(Clone, Debug, Error)]
pub enum Unfit {
    #[error("it is not WebAssembly: it does not begin like it")]
    NotWebAssembly,
    #[error(
        "it is a core module, not a component: link it for the target wasm32-wasip2, or wrap it \
         with `wasm-tools component new`"
    )]
    CoreModule,
    #[error("it cannot be compiled: {0}")]
    NotCompiled(String),
    #[error("it does not fit the world nightshift:plugin/plugin@0.1.0: {0}")]
    WrongWorld(String),
    #[error("describe() ended badly: {}", .0.message)]
    Describe(Fault),
}

/// A task as the plugin describes it, unchecked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskInfo {
    pub path: String,
    pub summary: String,
    pub description: Option<String>,
    pub timeout: Option<Duration>,
    pub max_attempts: Option<u32>,
}

impl From<task_types::TaskInfo> for TaskInfo {
    fn from(info: task_types::TaskInfo) -> Self {
        let task_types::TaskInfo { path, summary, description, defaults } = info;
        Self {
            path,
            summary,
            description,
            timeout: defaults.timeout_ms.map(Duration::from_millis),
            max_attempts: defaults.max_attempts,
        }
    }
}
