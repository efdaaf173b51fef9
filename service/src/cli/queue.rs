use std::process::ExitCode;

use clap::{Args, Subcommand};
use futures_util::TryStreamExt;
use nightshift_client::{
    Client,
    types::{Queue, QueueChange, QueueList},
};

use super::output::{Cell, Output, details, table};

#[derive(Subcommand)]
pub(super) enum QueueCommand {
    /// List queues by name
    List,
    /// Show a queue
    Get(Name),
    /// Start no more tasks of a queue; running ones go on
    Pause(Name),
    /// Start tasks of a queue again
    Resume(Name),
    /// Limit how many tasks of a queue run at the same time, over all executors
    Limit(Limit),
}

#[derive(Args)]
pub(super) struct Name {
    /// The queue's name
    name: String,
}

#[derive(Args)]
pub(super) struct Limit {
    /// The queue's name
    name: String,
    /// Largest number of running tasks, or none for no limit
    #[arg(value_parser = parse_limit)]
    concurrency: Concurrency,
}

#[derive(Clone, Copy)]
struct Concurrency(Option<i64>);

fn parse_limit(text: &str) -> Result<Concurrency, String> {
    if text == "none" {
        return Ok(Concurrency(None));
    }
    let number = text.parse().map_err(|_malformed| "is neither a number nor none".to_owned())?;
    Ok(Concurrency(Some(number)))
}

impl QueueCommand {
    pub(super) async fn run(self, client: &Client, out: Output) -> anyhow::Result<ExitCode> {
        let paused = |paused| QueueChange { paused: Some(paused), ..QueueChange::default() };
        let queue = match self {
            Self::List => {
                out.print(&all(client).await?, show_list)?;
                return Ok(ExitCode::SUCCESS);
            }
            Self::Get(Name { name }) => client.get_queue(&name).await?,
            Self::Pause(Name { name }) => client.update_queue(&name, &paused(true)).await?,
            Self::Resume(Name { name }) => client.update_queue(&name, &paused(false)).await?,
            Self::Limit(Limit { name, concurrency: Concurrency(limit) }) => {
                let change = QueueChange { concurrency: Some(limit), ..QueueChange::default() };
                client.update_queue(&name, &change).await?
            }
        };
        out.print(&queue, show)?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn all(client: &Client) -> anyhow::Result<QueueList> {
    Ok(QueueList { items: client.queues().try_collect().await?, next_cursor: None })
}

fn show(queue: &Queue) -> String {
    details(vec![
        ("name", Some(queue.name.clone())),
        ("state", Some(state(queue).to_owned())),
        ("concurrency", queue.concurrency.map(|limit| limit.to_string())),
        ("due", Some(queue.depth.to_string())),
        ("scheduled", Some(queue.scheduled.to_string())),
        ("running", Some(queue.in_flight.to_string())),
        ("oldest", queue.oldest_age_seconds.map(|age| format!("{age:.0} s"))),
    ])
}

fn state(queue: &Queue) -> &'static str {
    if queue.paused { "paused" } else { "open" }
}

fn show_list(list: &QueueList) -> String {
    queue_table(&list.items)
}

/// Queues as a table.
pub(super) fn queue_table(queues: &[Queue]) -> String {
    let rows = queues.iter().map(|queue| {
        let limit = queue.concurrency.map_or("-".to_owned(), |limit| limit.to_string());
        let oldest = queue.oldest_age_seconds.map_or("-".to_owned(), |age| format!("{age:.0} s"));
        vec![
            Cell::new(&queue.name),
            Cell::new(state(queue)),
            Cell::new(limit),
            Cell::new(queue.depth),
            Cell::new(queue.scheduled),
            Cell::new(queue.in_flight),
            Cell::new(oldest),
        ]
    });
    let head = ["queue", "state", "concurrency", "due", "scheduled", "running", "oldest"];
    table(&head, rows.collect())
}
