//! Shows what happens, as it happens.

use std::{pin::pin, process::ExitCode};

use clap::Args;
use futures_util::{Stream, StreamExt};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nightshift_client::{
    Client, EventFilter, Heard,
    types::{TaskError, TaskEvent, TaskEventType, TaskStatus},
};
use serde_json::json;
use uuid::Uuid;

use super::{
    output::{Output, exit_code, log_line, progress},
    visible::visible,
};

const BAR_LENGTH: u64 = 1_000;

/// Follow a task until it ends, or follow all tasks
#[derive(Args)]
pub(super) struct Watch {
    /// Id of the task; without it, all tasks are followed from now on
    id: Option<Uuid>,
    /// Only events of this type, such as task.finished
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "id", value_parser = event_type)]
    event_type: Option<TaskEventType>,
    /// Only tasks of this queue
    #[arg(long, alias = "queue-name", value_name = "NAME", conflicts_with = "id")]
    queue: Option<String>,
    /// Only tasks with this task path; a * at its end matches a prefix
    #[arg(long, conflicts_with = "id")]
    task_path: Option<String>,
}

fn event_type(name: &str) -> Result<TaskEventType, String> {
    serde_json::from_value(json!(name)).map_err(|error| error.to_string())
}

impl Watch {
    pub(super) async fn run(self, client: &Client, out: Output) -> anyhow::Result<ExitCode> {
        if let Some(id) = self.id {
            return Ok(exit_code(task(client, id, out).await?));
        }
        let filter = EventFilter {
            event_type: self.event_type,
            queue_name: self.queue,
            task_path: self.task_path,
        };
        let mut heard = pin!(client.watch_events(filter));
        while let Some(heard) = heard.next().await {
            match heard? {
                Heard::Event { event, .. } => {
                    let id = format!("{} ", event.task_id);
                    out.print(&event, |event| lines(event, &id))?;
                }
                Heard::Reset => missed(out)?,
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Follows a task to its end, prints each event, and shows how far it is where somebody can see it.
async fn task(client: &Client, id: Uuid, out: Output) -> anyhow::Result<TaskStatus> {
    let bar = bar()?;
    let status = follow(client.watch_task(id), &bar, Some(out)).await;
    bar.finish_and_clear();
    status
}

/// Shows how far a task is.
pub(super) fn bar() -> anyhow::Result<ProgressBar> {
    let bar = ProgressBar::with_draw_target(Some(BAR_LENGTH), ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template("{spinner} {elapsed_precise} [{bar:30}] {msg}")?);
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    Ok(bar)
}

/// Draws what is heard of a task, and returns how it ended.
pub(super) async fn follow(
    heard: impl Stream<Item = nightshift_client::Result<Heard>>,
    bar: &ProgressBar,
    print: Option<Output>,
) -> anyhow::Result<TaskStatus> {
    let mut heard = pin!(heard);
    let mut status = TaskStatus::Ready;
    while let Some(heard) = heard.next().await {
        let event = match (heard?, print) {
            (Heard::Event { event, .. }, _) => event,
            (Heard::Reset, Some(out)) => {
                bar.suspend(|| missed(out))?;
                continue;
            }
            (Heard::Reset, None) => continue,
        };
        status = event.status;
        draw(bar, &event);
        if let Some(out) = print {
            bar.suspend(|| out.print(&event, |event| lines(event, "")))?;
        }
    }
    Ok(status)
}

fn missed(out: Output) -> anyhow::Result<()> {
    out.print(&json!({"type": "reset"}), |_| "(some events are gone)".to_owned())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a bar of a thousand places"
)]
fn draw(bar: &ProgressBar, event: &TaskEvent) {
    if event.event_type == TaskEventType::Log {
        return;
    }
    let progress = event.progress.clone().unwrap_or_default();
    bar.set_position((progress.fraction.unwrap_or(0.0) * BAR_LENGTH as f64) as u64);
    let message = progress.message.unwrap_or_default();
    bar.set_message(format!("{} {}", event.status, visible(&message)));
}

/// What people read of an event: a line, or one for each line of the log, with `id` before it.
fn lines(event: &TaskEvent, id: &str) -> String {
    if event.event_type == TaskEventType::Log {
        let lines = event.logs.iter().map(|line| format!("{id}{}", log_line(line)));
        return lines.collect::<Vec<_>>().join("\n");
    }
    format!("{id}{} {}", event.at, what(event)).trim_end().to_owned()
}

fn what(event: &TaskEvent) -> String {
    let attempt = event.attempt;
    let shown = |error: &TaskError| format!(": {}", visible(&error.message));
    let error = event.error.as_ref().map_or(String::new(), shown);
    let until = event.run_after.map_or(String::new(), |at| format!(", not before {at}"));
    match event.event_type {
        TaskEventType::Enqueued => {
            let (path, queue) = (visible(&event.task_path), visible(&event.queue_name));
            format!("enqueued {path} in {queue}{until}")
        }
        TaskEventType::Started => {
            let by =
                event.worker_id.as_ref().map_or(String::new(), |id| format!(" by {}", visible(id)));
            format!("started attempt {attempt}{by}")
        }
        TaskEventType::Progress => event.progress.as_ref().map_or(String::new(), progress),
        TaskEventType::Log => String::new(),
        TaskEventType::AttemptFailed => format!("attempt {attempt} failed{error}{until}"),
        TaskEventType::Released => format!("attempt {attempt} was given back{until}"),
        TaskEventType::CancelRequested => "cancel requested".to_owned(),
        TaskEventType::Finished => format!("{}{error}", event.status),
        TaskEventType::Retried => "retried".to_owned(),
        TaskEventType::Deleted => "deleted".to_owned(),
    }
}
