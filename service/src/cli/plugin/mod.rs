//! Commands about plugins.

mod check;
mod measure;
mod new;
mod run;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use futures_util::TryStreamExt;
use nightshift_client::{
    Client,
    types::{Executor, Plugin, PluginList, PluginTask, RollbackRequest},
};

use super::output::{Cell, Output, details, table};

/// Digits of a digest that are shown where there is little room.
const SHORT_DIGEST: usize = 12;

#[derive(Subcommand)]
pub(super) enum PluginCommand {
    /// Install a component as a new plugin, or as a new version of one
    Install(Install),
    /// List plugins
    List,
    /// Show a plugin, its tasks and its versions
    Get(Name),
    /// Activate the version that was active before
    Rollback(Rollback),
    /// Delete a plugin and the executor of its name
    #[command(aliases = ["remove", "revoke"])]
    Delete(Name),
    /// Check whether a component can be a plugin, and list its tasks; needs no service
    Check(check::Check),
    /// Write the interface and a template for a new plugin; needs no service
    New(new::New),
    /// Run a task of a component in this process; needs no service
    Run(run::Run),
}

#[derive(Args)]
pub(super) struct Name {
    /// The plugin's name
    name: String,
}

#[derive(Args)]
pub(super) struct Install {
    /// The plugin's name
    name: String,
    /// File of the component (WASM)
    file: PathBuf,
}

#[derive(Args)]
pub(super) struct Rollback {
    /// The plugin's name
    name: String,
    /// Digest of the version to activate
    #[arg(long, value_name = "DIGEST")]
    to: Option<String>,
}

impl PluginCommand {
    pub(super) async fn run(self, client: &Client, out: Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Install(Install { name, file }) => {
                out.print(&client.put_plugin(&name, read(&file)?).await?, show)?;
                check_served(client, &name).await?;
            }
            Self::List => out.print(&all(client).await?, show_list)?,
            Self::Get(Name { name }) => out.print(&client.get_plugin(&name).await?, show)?,
            Self::Rollback(Rollback { name, to }) => {
                let request = RollbackRequest { digest: to };
                out.print(&client.roll_back_plugin(&name, &request).await?, show)?;
            }
            Self::Delete(Name { name }) => client.delete_plugin(&name).await?,
            Self::Check(check) => check.run(out).await?,
            Self::New(new) => new.run(out)?,
            Self::Run(run) => return run.run(out).await,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// An executor that has the plugin's name already is not replaced by one that runs it.
async fn check_served(client: &Client, name: &str) -> anyhow::Result<()> {
    let executors: Vec<Executor> = client.executors().try_collect().await?;
    if executors.iter().any(|executor| executor.plugin.as_deref() == Some(name)) {
        return Ok(());
    }
    bail!(
        "the plugin {name} is installed, but nothing runs it, since there is another executor of \
         its name. `nightshift executor put OTHER_NAME --plugin {name}` registers one that does."
    )
}

fn read(file: &PathBuf) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

async fn all(client: &Client) -> anyhow::Result<PluginList> {
    Ok(PluginList { items: client.plugins().try_collect().await?, next_cursor: None })
}

fn show(plugin: &Plugin) -> String {
    let versions: Vec<String> = plugin
        .versions
        .iter()
        .map(|version| {
            let mark = if version.active { "  (active)" } else { "" };
            format!("{}  {}{mark}", version.installed_at, version.digest)
        })
        .collect();
    let about = details(vec![
        ("name", Some(plugin.name.clone())),
        ("size", Some(format!("{} bytes", plugin.size_bytes))),
    ]);
    let versions = versions.join("\n          ");
    format!("{about}\nversions  {versions}\n\n{}", show_tasks(&plugin.tasks))
}

fn show_tasks(tasks: &[PluginTask]) -> String {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let rows = tasks.iter().map(|task| {
        vec![
            Cell::new(&task.task_path),
            Cell::new(or_dash(task.timeout_seconds.map(|seconds| format!("{seconds} s")))),
            Cell::new(or_dash(task.max_attempts.map(|attempts| attempts.to_string()))),
            Cell::new(&task.summary),
        ]
    });
    table(&["task path", "timeout", "attempts", "summary"], rows.collect())
}

fn show_list(list: &PluginList) -> String {
    let rows = list.items.iter().map(|plugin| {
        let paths: Vec<&str> = plugin.tasks.iter().map(|task| task.task_path.as_str()).collect();
        vec![
            Cell::new(&plugin.name),
            Cell::new(plugin.digest.get(..SHORT_DIGEST).unwrap_or(&plugin.digest)),
            Cell::new(plugin.size_bytes),
            Cell::new(paths.join(" ")),
        ]
    });
    table(&["name", "digest", "bytes", "task paths"], rows.collect())
}
