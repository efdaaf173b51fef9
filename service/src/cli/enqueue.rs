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
    /// Name of the work, such as myapp.tasks.extract_sources
    task_path: String,
    /// Positional arguments: JSON, or else text
    #[arg(allow_negative_numbers = true)]
    arguments: Vec<String>,
    /// All positional arguments as one JSON array
    #[arg(long, value_name = "JSON", conflicts_with = "arguments")]
    args: Option<String>,
    /// Keyword argument, as name=value; the value is JSON, or else text; may be repeated
    #[arg(long, value_name = "NAME=VALUE", conflicts_with = "kwargs")]
    kwarg: Vec<String>,
    /// All keyword arguments as one JSON object
    #[arg(long, value_name = "JSON")]
    kwargs: Option<String>,
    /// Queue of the task [default: default]
    #[arg(long, alias = "queue-name", value_name = "NAME")]
    queue: Option<String>,
    /// Priority from -100 to 100; higher runs first [default: 0]
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<i64>,
    /// Earliest start: a time (RFC 3339), or a delay from now (90s, 10m, 2h)
    #[arg(long, value_name = "TIME")]
    run_after: Option<String>,
    /// Latest start: the task fails if it still waits at this time (RFC 3339), or after this delay
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    /// Longest time of one attempt: seconds, or 90s, 10m, 2h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    /// Largest number of attempts
    #[arg(long)]
    max_attempts: Option<i64>,
    /// Label, as key=value; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Id of the task (a UUID); repeating the command with the same id enqueues no second task
    #[arg(long)]
    id: Option<Uuid>,
    /// Refuse the task while another one with this key waits or runs
    #[arg(long)]
    unique_key: Option<String>,
    /// Repeating the command with the same key enqueues no second task
    #[arg(long)]
    idempotency_key: Option<String>,
    /// Wait for the task's end, without a limit or for this time (seconds, or 90s, 5m, 1h); the
    /// exit status tells how the task ended. Write --wait after the task's path and arguments,
    /// since it takes the next word as its time
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
