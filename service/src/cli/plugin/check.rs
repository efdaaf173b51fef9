//! What a component is, found out here and in the way that the service does it.

use std::path::PathBuf;

use clap::Args;
use nightshift_client::types::PluginTask;
use serde::Serialize;

use super::{read, show_tasks};
use crate::{
    cli::output::Output,
    config::Config,
    plugin::{self, Inspected, Plugins},
};

#[derive(Args)]
pub(in crate::cli) struct Check {
    /// The component
    file: PathBuf,
}

#[derive(Serialize)]
struct Checked {
    digest: String,
    tasks: Vec<PluginTask>,
}

impl Check {
    pub(super) async fn run(self, out: Output) -> anyhow::Result<()> {
        let (_, inspected) = inspect(&self.file).await?;
        let tasks = inspected.description.tasks().iter().map(wire_task).collect();
        let checked = Checked { digest: inspected.digest.to_string(), tasks };
        out.print(&checked, |checked| {
            format!("a plugin, digest {}\n\n{}", checked.digest, show_tasks(&checked.tasks))
        })
    }
}

/// Compiles the component in the file and asks it for its tasks.
pub(super) async fn inspect(file: &PathBuf) -> anyhow::Result<(Plugins, Inspected)> {
    // No other runs have to fit in beside these.
    let settings = plugin::Settings { memory_mib: u32::MAX, ..Config::default().plugins()? };
    let plugins = Plugins::new(settings);
    let component = read(file)?.into();
    let inspected = plugins.inspect(&component).await.map_err(anyhow::Error::from)?;
    Ok((plugins, inspected))
}

fn wire_task(task: &crate::domain::plugin::PluginTask) -> PluginTask {
    PluginTask {
        task_path: task.path.to_string(),
        summary: task.summary.clone(),
        description: task.description.clone(),
        timeout_seconds: task.defaults.timeout.map(|timeout| timeout.as_secs_f64()),
        max_attempts: task.defaults.max_attempts,
    }
}
