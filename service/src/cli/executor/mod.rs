//! Commands about executors.

mod check;
mod put;

use std::process::ExitCode;

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use futures_util::TryStreamExt;
use nightshift_client::{
    Client,
    types::{Executor, ExecutorChange, ExecutorKind, ExecutorList, Granted},
};

use super::output::{Cell, Output, details, table};
use crate::{domain::executor::Secret, entropy::Entropy};

#[derive(Subcommand)]
pub(super) enum ExecutorCommand {
    /// Register an executor, or change one that is registered
    Put(Box<put::Put>),
    /// List executors
    List,
    /// Show an executor
    Get(Name),
    /// Start no more tasks of an executor; running ones go on
    Pause(Name),
    /// Start tasks of an executor again; if it was held after failed deliveries, try it at once
    Resume(Name),
    /// Delete an executor
    #[command(aliases = ["remove", "revoke"])]
    Delete(Name),
    /// Test whether an HTTP executor follows the protocol; needs no service
    Check(Box<check::Check>),
}

#[derive(Args)]
pub(super) struct Name {
    /// The executor's name
    name: String,
}

impl ExecutorCommand {
    pub(super) async fn run(self, client: &Client, out: Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Put(put) => put.run(client, out).await?,
            Self::List => out.print(&all(client).await?, show_list)?,
            Self::Get(Name { name }) => out.print(&client.get_executor(&name).await?, show)?,
            Self::Pause(Name { name }) => set_paused(client, &name, true, out).await?,
            Self::Resume(Name { name }) => set_paused(client, &name, false, out).await?,
            Self::Delete(Name { name }) => client.delete_executor(&name).await?,
            Self::Check(check) => return check.run(out).await,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn all(client: &Client) -> anyhow::Result<ExecutorList> {
    Ok(ExecutorList { items: client.executors().try_collect().await?, next_cursor: None })
}

async fn set_paused(client: &Client, name: &str, paused: bool, out: Output) -> anyhow::Result<()> {
    let change = ExecutorChange { paused: Some(paused), ..ExecutorChange::default() };
    out.print(&client.update_executor(name, &change).await?, show)
}

pub(super) fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("needs a name, = and a value")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A new signing secret.
pub(super) fn make_secret(entropy: &Entropy) -> String {
    format!("{}{}", Secret::PREFIX, STANDARD.encode(entropy.bytes::<24>()))
}

fn show(executor: &Executor) -> String {
    let granted = |list: fn(&Granted) -> &Vec<String>| {
        executor.grants.as_ref().map(list).filter(|list| !list.is_empty()).map(|l| l.join(" "))
    };
    details(vec![
        ("name", Some(executor.name.clone())),
        ("url", executor.url.clone()),
        ("success", executor.echoes_task_id.then(|| "with the task's id only".to_owned())),
        ("plugin", executor.plugin.clone()),
        ("memory", executor.memory_mib.map(|mib| format!("{mib} MiB"))),
        ("http", granted(|grants| &grants.http)),
        ("directories", granted(|grants| &grants.directories)),
        ("environment", granted(|grants| &grants.environment)),
        ("task paths", Some(executor.task_paths.join(" "))),
        ("concurrency", executor.concurrency.map(|limit| limit.to_string())),
        ("lease", Some(format!("{} s", executor.lease_seconds))),
        ("state", Some(state(executor))),
    ])
}

fn state(executor: &Executor) -> String {
    match &executor.hold {
        _ if executor.paused => "paused".to_owned(),
        Some(hold) => format!("held until {}: {}", hold.until, hold.reason),
        None => "ready".to_owned(),
    }
}

/// Where its tasks run.
fn place(executor: &Executor) -> String {
    match executor.kind {
        ExecutorKind::Http => executor.url.clone().unwrap_or_default(),
        ExecutorKind::Worker => "(workers)".to_owned(),
        ExecutorKind::Wasm => {
            format!("(plugin {})", executor.plugin.as_deref().unwrap_or_default())
        }
    }
}

fn show_list(list: &ExecutorList) -> String {
    let rows = list.items.iter().map(|executor| {
        vec![
            Cell::new(&executor.name),
            Cell::new(place(executor)),
            Cell::new(executor.task_paths.join(" ")),
            Cell::new(executor.concurrency.map_or("-".to_owned(), |limit| limit.to_string())),
            Cell::new(state(executor)),
        ]
    });
    table(&["name", "where", "task paths", "concurrency", "state"], rows.collect())
}
