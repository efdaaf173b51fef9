//! Queues and running tasks, as they change.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use clap::Args;
use console::Term;
use futures_util::{StreamExt, TryStreamExt};
use nightshift_client::{
    Client, EventFilter, Events, Heard, TaskFilter,
    types::{Progress, Stats, TaskEvent, TaskEventType, TaskStatus, TaskSummary},
};
use serde_json::json;
use uuid::Uuid;

use super::{
    output::{Cell, Output, progress, table},
    queue::queue_table,
};
use crate::{
    clock::{Clock, SystemClock},
    domain::Timestamp,
};

/// How often the picture is drawn anew.
const PERIOD: Duration = Duration::from_secs(1);
/// Running tasks that are known; what else runs is only counted.
const RUNNING_MAX: usize = 1_000;
/// Rows for them.
const ROWS: usize = 20;

/// Show queues and running tasks, and update them as they change, until Ctrl-C
#[derive(Args)]
pub(super) struct Top {
    /// Show them once, and stop
    #[arg(long)]
    once: bool,
}

impl Top {
    pub(super) async fn run(self, client: &Client, out: Output) -> anyhow::Result<ExitCode> {
        let term = Term::stdout();
        if self.once || out.json || !term.is_term() {
            let picture = Picture::read(client).await?;
            out.print(&json!({"stats": picture.stats, "running": picture.ids()}), |_| {
                picture.text(SystemClock::default().now())
            })?;
            return Ok(ExitCode::SUCCESS);
        }
        loop {
            // From before the list is read, so that nothing falls between.
            let events = client.get_events(&EventFilter::default(), None).await?;
            let picture = Picture::read(client).await?;
            show(client, &term, picture, events).await?;
        }
    }
}

/// Draws until some events were missed, or the connection was lost.
async fn show(
    client: &Client,
    term: &Term,
    mut picture: Picture,
    mut events: Events,
) -> anyhow::Result<()> {
    loop {
        let text = picture.text(SystemClock::default().now());
        term.clear_screen()?;
        term.write_line(&text)?;
        match tokio::time::timeout(PERIOD, picture.follow(&mut events)).await {
            Ok(()) => return Ok(()),
            Err(_elapsed) => picture.stats = client.get_stats().await?,
        }
    }
}

/// What is shown.
struct Picture {
    stats: Stats,
    running: BTreeMap<Uuid, Running>,
}

struct Running {
    task_path: String,
    queue_name: String,
    worker: String,
    attempt: u32,
    since: Option<Timestamp>,
    progress: Option<Progress>,
}

impl Picture {
    async fn read(client: &Client) -> anyhow::Result<Self> {
        let stats = client.get_stats().await?;
        let filter = TaskFilter { status: Some(TaskStatus::Running), ..TaskFilter::default() };
        let running: Vec<TaskSummary> =
            client.tasks(filter).take(RUNNING_MAX).try_collect().await?;
        let running = running.into_iter().map(|task| (task.id, task.into())).collect();
        Ok(Self { stats, running })
    }

    fn ids(&self) -> Vec<&Uuid> {
        self.running.keys().collect()
    }

    /// Takes in what happens; returns when there is no more of it to be had here.
    async fn follow(&mut self, events: &mut Events) {
        while let Some(Ok(Heard::Event { event, .. })) = events.next().await {
            self.take(*event);
        }
    }

    fn take(&mut self, event: TaskEvent) {
        if event.status != TaskStatus::Running {
            self.running.remove(&event.task_id);
            return;
        }
        if let Some(running) = self.running.get_mut(&event.task_id) {
            running.progress = event.progress.or(running.progress.take());
        }
        if event.event_type == TaskEventType::Started && self.running.len() < RUNNING_MAX {
            let running = Running {
                task_path: event.task_path,
                queue_name: event.queue_name,
                worker: event.worker_id.unwrap_or_default(),
                attempt: event.attempt,
                since: Some(event.at.into()),
                progress: None,
            };
            self.running.insert(event.task_id, running);
        }
    }

    fn text(&self, now: Timestamp) -> String {
        let Stats { due, unrouted, scheduled, running, ended_last_minute: ended, .. } = &self.stats;
        let per_minute = format!(
            "in the last minute {} successful, {} failed, {} cancelled",
            ended.successful, ended.failed, ended.cancelled
        );
        let totals =
            format!("{due} due ({unrouted} unrouted), {scheduled} scheduled, {running} running");
        let queues = queue_table(&self.stats.queues);
        format!("{totals}; {per_minute}\n\n{queues}\n\n{}", self.table(now))
    }

    /// The tasks that have run longest.
    fn table(&self, now: Timestamp) -> String {
        let mut running: Vec<(&Uuid, &Running)> = self.running.iter().collect();
        running.sort_by_key(|(id, running)| (running.since, **id));
        let rows = running.into_iter().take(ROWS).map(|(id, running)| {
            vec![
                Cell::new(id),
                Cell::new(&running.task_path),
                Cell::new(&running.queue_name),
                Cell::new(&running.worker),
                Cell::new(running.attempt),
                Cell::new(running.since.map_or(String::new(), |since| seconds(since, now))),
                Cell::new(running.progress.as_ref().map_or(String::new(), progress)),
            ]
        });
        let head = ["running", "task path", "queue", "worker", "attempt", "for", "progress"];
        table(&head, rows.collect())
    }
}

impl From<TaskSummary> for Running {
    fn from(task: TaskSummary) -> Self {
        Self {
            task_path: task.task_path,
            queue_name: task.queue_name,
            worker: task.executor.unwrap_or_default(),
            attempt: task.attempts,
            since: task.started_at.map(Into::into),
            progress: None,
        }
    }
}

fn seconds(since: Timestamp, now: Timestamp) -> String {
    format!("{} s", now.duration_since(since).as_secs().max(0))
}
