//! Plugins and their versions.

use nightshift_openapi as wire;

use crate::domain::plugin::{Plugin, PluginTask, PluginVersion};

pub(in crate::api) fn wire_plugin(plugin: &Plugin) -> wire::Plugin {
    let active = plugin.active_version();
    wire::Plugin {
        digest: active.map(|version| version.digest.to_string()).unwrap_or_default(),
        size_bytes: active.map_or(0, |version| version.bytes),
        tasks: active
            .map(|version| version.description.tasks().iter().map(wire_task).collect())
            .unwrap_or_default(),
        versions: plugin
            .versions
            .iter()
            .enumerate()
            .map(|(place, version)| wire_version(version, place == 0))
            .collect(),
        name: plugin.name.to_string(),
        created_at: plugin.created_at.into(),
        updated_at: plugin.updated_at.into(),
    }
}

fn wire_task(task: &PluginTask) -> wire::PluginTask {
    wire::PluginTask {
        task_path: task.path.to_string(),
        summary: task.summary.clone(),
        description: task.description.clone(),
        timeout_seconds: task.defaults.timeout.map(|timeout| timeout.as_secs_f64()),
        max_attempts: task.defaults.max_attempts,
    }
}

fn wire_version(version: &PluginVersion, active: bool) -> wire::PluginVersion {
    wire::PluginVersion {
        digest: version.digest.to_string(),
        size_bytes: version.bytes,
        installed_at: version.installed_at.into(),
        activated_at: version.activated_at.into(),
        active,
    }
}
