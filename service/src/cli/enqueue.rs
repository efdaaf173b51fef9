use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use nightshift_client::{
    Client, EnqueueOptions,
    types::{Json, TaskRequest},
};
use uuid::Uuid;

use super::{
    output::{Output, exit_code},
    time::{duration, time},
    waiting::{Waited, wait_for_end},
};

/// Enqueue a task.
#[derive(Args)]
pub(super) struct Enqueue {
    /// The work's name, such as myapp.tasks.extract_sources
    task_path: String,
    /// Positional arguments: JSON, or else text
    #[arg(allow_negative_numbers = true)]
    arguments: Vec<String>,
    /// All positional arguments as one JSON array
    #[arg(long, value_name = "JSON", conflicts_with = "arguments")]
    args: Option<String>,
    /// A keyword argument, as name=value; the value is JSON, or else text
    #[arg(long, value_name = "NAME=VALUE", conflicts_with = "kwargs")]
    kwarg: Vec<String>,
    /// All keyword arguments as one JSON object
    #[arg(long, value_name = "JSON")]
    kwargs: Option<String>,
    /// The queue to wait in [default: default]
    #[arg(long, alias = "queue-name", value_name = "NAME")]
    queue: Option<String>,
    /// -100 to 100; the highest runs first [default: 0]
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<i64>,
    /// Not before this time (RFC 3339), or this much later (90s, 10m, 2h)
    #[arg(long, value_name = "TIME")]
    run_after: Option<String>,
    /// Fail if still waiting at this time, or this much later
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    /// How long one attempt may take: seconds, or 90s, 10m, 2h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    /// How often to try in all
    #[arg(long)]
    max_attempts: Option<i64>,
    /// A label, as key=value
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// The task's id, which makes the command safe to repeat
    #[arg(long)]
    id: Option<Uuid>,
    /// Do not enqueue while a task with this key waits or runs
    #[arg(long)]
    unique_key: Option<String>,
    /// Makes the command safe to repeat without choosing an id
    #[arg(long)]
    idempotency_key: Option<String>,
    /// Wait until the task has ended, or so long (seconds, or 90s, 5m, 1h); the exit status tells how it
    /// ended. The next word is taken for the time, so write this after the task's path and arguments
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        default_missing_value = Limit::NONE,
        value_parser = Limit::parse
    )]
    wait: Option<Limit>,
}

/// How long to wait, if there is an end to it.
#[derive(Clone, Copy)]
struct Limit(Option<Duration>);

impl Limit {
    const NONE: &str = "for ever";

    fn parse(text: &str) -> Result<Self, String> {
        if text == Self::NONE {
            Ok(Self(None))
        } else {
            duration(text).map(|limit| Self(Some(limit)))
        }
    }
}

impl Enqueue {
    pub(super) async fn run(self, client: &Client, out: Output) -> anyhow::Result<ExitCode> {
        let options = EnqueueOptions {
            idempotency_key: self.idempotency_key.clone(),
            ..EnqueueOptions::default()
        };
        let wait = self.wait;
        let enqueued = client.create_task(&self.request()?, &options).await?;
        let Some(Limit(limit)) = wait else {
            out.print(&enqueued.task, |task| task.id.to_string())?;
            return Ok(ExitCode::SUCCESS);
        };
        let id = enqueued.task.id;
        if let Waited::GivenUp(code) = wait_for_end(client, id, limit).await? {
            return Ok(code);
        }
        let task = client.get_task(id, None).await?;
        out.print_errors(&task.errors);
        if out.json || task.return_value.is_some() {
            out.print(&task, |task| {
                task.return_value.as_ref().map_or(String::new(), Json::to_string)
            })?;
        }
        Ok(exit_code(task.status))
    }

    fn request(self) -> anyhow::Result<TaskRequest> {
        let args = match self.args {
            Some(text) => text.parse().context("--args is not JSON")?,
            None => array(&self.arguments)?,
        };
        let kwargs = match self.kwargs {
            Some(text) => text.parse().context("--kwargs is not JSON")?,
            None => object(&self.kwarg)?,
        };
        Ok(TaskRequest {
            args: Some(args),
            kwargs: Some(kwargs),
            queue_name: self.queue,
            priority: self.priority,
            run_after: self.run_after.as_deref().map(time).transpose()?,
            expires_at: self.expires_at.as_deref().map(time).transpose()?,
            timeout_seconds: self.timeout.map(|timeout| timeout.as_secs_f64()),
            max_attempts: self.max_attempts,
            labels: self.label.iter().map(|text| pair(text)).collect::<anyhow::Result<_>>()?,
            id: self.id,
            unique_key: self.unique_key,
            ..TaskRequest::new(self.task_path)
        })
    }
}

/// JSON if it is JSON, else text; the text of numbers is kept as typed.
fn value(text: &str) -> anyhow::Result<Json> {
    text.parse().or_else(|_| Ok(Json::from_value(&text)?))
}

fn array(values: &[String]) -> anyhow::Result<Json> {
    let values: Vec<Json> = values.iter().map(|text| value(text)).collect::<anyhow::Result<_>>()?;
    Ok(Json::from_value(&values)?)
}

fn object(pairs: &[String]) -> anyhow::Result<Json> {
    let pairs: BTreeMap<String, Json> = pairs
        .iter()
        .map(|text| {
            let (name, text) = pair(text)?;
            Ok((name, value(&text)?))
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(Json::from_value(&pairs)?)
}

fn pair(text: &str) -> anyhow::Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => bail!("{text:?} is not name=value"),
    }
}
