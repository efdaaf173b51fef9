//! Commands about executors.

mod check;

use std::process::ExitCode;

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use comfy_table::Cell;
use futures_util::TryStreamExt;
use nightshift_client::{
    Client,
    types::{Executor, ExecutorKind, ExecutorList, ExecutorRequest, Granted, Grants},
};

use super::output::{Output, details, table};
use crate::{domain::executor::Secret, entropy::Entropy};

#[derive(Subcommand)]
pub(super) enum ExecutorCommand {
    /// Register an executor, in place of what was registered under the name
    Put(Box<Put>),
    /// List executors
    List,
    /// Show an executor
    Get(Name),
    /// Forget an executor
    Delete(Name),
    /// Say whether an HTTP executor does what is asked of one; needs no service
    Check(Box<check::Check>),
}

#[derive(Args)]
pub(super) struct Name {
    /// The executor's name
    name: String,
}

#[derive(Args)]
pub(super) struct Put {
    /// The executor's name
    name: String,
    /// Where it is called; without it, and without --plugin, workers ask for its tasks
    #[arg(long)]
    url: Option<String>,
    /// The installed plugin that it runs
    #[arg(long, conflicts_with = "url")]
    plugin: Option<String>,
    /// A task path that it serves: exact, by prefix (myapp.tasks.*), or all (*) [default: those
    /// that the plugin describes]
    #[arg(long, required_unless_present = "plugin")]
    task_path: Vec<String>,
    /// whsec_ and the base64 of 24 to 64 bytes [default: made, and printed once]
    #[arg(long, requires = "url")]
    secret: Option<String>,
    /// The secret before, while it is being replaced
    #[arg(long, requires = "url")]
    previous_secret: Option<String>,
    /// MiB of memory that one run of the plugin may have [default: 128]
    #[arg(long, requires = "plugin")]
    memory_mib: Option<i64>,
    /// Let the plugin send HTTP requests to this host
    #[arg(long, requires = "plugin", value_name = "HOST[:PORT]")]
    grant_http: Vec<String>,
    /// Let the plugin read this directory of the service's plugin_directories
    #[arg(long, requires = "plugin", value_name = "NAME")]
    grant_directory: Vec<String>,
    /// Set a variable in the plugin's environment
    #[arg(long, requires = "plugin", value_name = "NAME=VALUE", value_parser = variable)]
    grant_env: Vec<(String, String)>,
    /// How many of its tasks may run at once [default: 10, or no limit for workers]
    #[arg(long)]
    concurrency: Option<i64>,
    /// How long its lease lasts unless it is renewed [default: 30]
    #[arg(long)]
    lease_seconds: Option<i64>,
    /// How long an attempt at its tasks may take
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
    /// How often its tasks are tried
    #[arg(long)]
    max_attempts: Option<i64>,
    /// Start nothing yet
    #[arg(long)]
    paused: bool,
}

impl ExecutorCommand {
    pub(super) async fn run(self, client: &Client, out: Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Put(put) => put.run(client, out).await?,
            Self::List => out.print(&all(client).await?, show_list)?,
            Self::Get(Name { name }) => out.print(&client.get_executor(&name).await?, show)?,
            Self::Delete(Name { name }) => client.delete_executor(&name).await?,
            Self::Check(check) => return check.run(out).await,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn all(client: &Client) -> anyhow::Result<ExecutorList> {
    Ok(ExecutorList { items: client.executors().try_collect().await?, next_cursor: None })
}

pub(super) fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("needs a name, = and a value")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A new signing secret.
pub(super) fn make_secret(entropy: &Entropy) -> String {
    format!("{}{}", Secret::PREFIX, STANDARD.encode(entropy.bytes::<24>()))
}

impl Put {
    async fn run(self, client: &Client, out: Output) -> anyhow::Result<()> {
        let called = self.url.is_some();
        let made = (called && self.secret.is_none()).then(|| make_secret(&Entropy::from_system()));
        let kind = match (&self.url, &self.plugin) {
            (Some(_), _) => ExecutorKind::Http,
            (None, Some(_)) => ExecutorKind::Wasm,
            (None, None) => ExecutorKind::Worker,
        };
        let grants = Grants {
            http: self.grant_http,
            directories: self.grant_directory,
            environment: self.grant_env.into_iter().collect(),
        };
        let request = ExecutorRequest {
            kind,
            grants: self.plugin.is_some().then_some(grants),
            plugin: self.plugin,
            memory_mib: self.memory_mib,
            task_paths: self.task_path,
            url: self.url,
            secret: self.secret.or_else(|| made.clone()),
            previous_secret: self.previous_secret,
            concurrency: self.concurrency,
            lease_seconds: self.lease_seconds,
            timeout_seconds: self.timeout,
            max_attempts: self.max_attempts,
            backoff: None,
            paused: self.paused,
        };
        let executor = client.put_executor(&self.name, &request).await?;
        out.print(&executor, show)?;
        match made {
            // Beside the registration, which never holds it.
            Some(secret) if out.json => out
                .print(&std::collections::BTreeMap::from([("secret", secret)]), |_| String::new()),
            Some(secret) => out.print(&secret, |secret| format!("secret       {secret}")),
            None => Ok(()),
        }
    }
}

fn show(executor: &Executor) -> String {
    let granted = |list: fn(&Granted) -> &Vec<String>| {
        executor.grants.as_ref().map(list).filter(|list| !list.is_empty()).map(|l| l.join(" "))
    };
    details(vec![
        ("name", Some(executor.name.clone())),
        ("url", executor.url.clone()),
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
