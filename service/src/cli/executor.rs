use std::process::ExitCode;

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use comfy_table::Cell;
use nightshift_client::{
    Client,
    types::{Executor, ExecutorKind, ExecutorList, ExecutorRequest},
};

use super::output::{Output, details, table};
use crate::{domain::executor::Secret, entropy::Entropy};

/// Commands about executors.
#[derive(Subcommand)]
pub(super) enum ExecutorCommand {
    /// Register an executor, in place of what was registered under the name
    Put(Put),
    /// List executors
    List,
    /// Show an executor
    Get(Name),
    /// Forget an executor
    Delete(Name),
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
    /// Where it is called; without it, workers ask for its tasks
    #[arg(long)]
    url: Option<String>,
    /// A task path that it serves: exact, by prefix (myapp.tasks.*), or all (*)
    #[arg(long, required = true)]
    task_path: Vec<String>,
    /// whsec_ and the base64 of 24 to 64 bytes [default: made, and printed once]
    #[arg(long, requires = "url")]
    secret: Option<String>,
    /// The secret before, while it is being replaced
    #[arg(long, requires = "url")]
    previous_secret: Option<String>,
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
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn all(client: &Client) -> anyhow::Result<ExecutorList> {
    let mut list = client.list_executors(None, None).await?;
    while let Some(cursor) = list.next_cursor.take() {
        let page = client.list_executors(Some(&cursor), None).await?;
        list.items.extend(page.items);
        list.next_cursor = page.next_cursor;
    }
    Ok(list)
}

/// A new signing secret.
pub(super) fn make_secret(entropy: &Entropy) -> String {
    format!("{}{}", Secret::PREFIX, STANDARD.encode(entropy.bytes::<24>()))
}

impl Put {
    async fn run(self, client: &Client, out: Output) -> anyhow::Result<()> {
        let called = self.url.is_some();
        let made = (called && self.secret.is_none()).then(|| make_secret(&Entropy::from_system()));
        let request = ExecutorRequest {
            kind: if called { ExecutorKind::Http } else { ExecutorKind::Worker },
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
    details(vec![
        ("name", Some(executor.name.clone())),
        ("url", executor.url.clone()),
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

fn show_list(list: &ExecutorList) -> String {
    let rows = list.items.iter().map(|executor| {
        vec![
            Cell::new(&executor.name),
            Cell::new(executor.url.as_deref().unwrap_or("(workers)")),
            Cell::new(executor.task_paths.join(" ")),
            Cell::new(executor.concurrency.map_or("-".to_owned(), |limit| limit.to_string())),
            Cell::new(state(executor)),
        ]
    });
    table(&["name", "url", "task paths", "concurrency", "state"], rows.collect())
}
