//! Commands about tasks that have been enqueued.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::bail;
use clap::{Args, ValueEnum};
use nightshift_client::{
    Client, Result as Answer, TaskFilter,
    types::{Explanation, Json, LogList, Task, TaskList, TaskStatus, Timestamp},
};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::{
    FAILURE,
    output::{Cell, Output, details, exit_code, log_line, progress, status_cell, table},
    time::duration,
    visible::visible,
};
use crate::{domain::limits::WAIT_MAX, telemetry::print};

/// Names one task.
#[derive(Args)]
pub(super) struct One {
    /// The task's id
    id: Uuid,
}

/// Names one task and waits for its end.
#[derive(Args)]
pub(super) struct OneWaiting {
    /// The task's id
    id: Uuid,
    /// Wait for the end of the task for this time (seconds, or 90s, 5m, 1h); the exit status tells
    /// how it ended
    #[arg(long, value_name = "TIME", value_parser = duration)]
    wait: Option<Duration>,
}

impl OneWaiting {
    /// Asks as often as it takes: the service lets one request wait for less than a minute.
    async fn ask<T>(
        &self,
        ask: impl AsyncFn(Option<Duration>) -> Answer<T>,
        has_ended: impl Fn(&T) -> bool,
    ) -> Answer<T> {
        let Some(limit) = self.wait else {
            return ask(None).await;
        };
        let begun = Instant::now();
        loop {
            let left = limit.saturating_sub(begun.elapsed());
            let answer = ask(Some(left.min(WAIT_MAX))).await?;
            if left <= WAIT_MAX || has_ended(&answer) {
                return Ok(answer);
            }
        }
    }

    pub(super) async fn get(self, client: &Client, out: Output) -> anyhow::Result<ExitCode> {
        let ask = async |wait| client.get_task(self.id, wait).await;
        let task = self.ask(ask, |task| task.status.is_finished()).await?;
        out.print(&task, show)?;
        out.print_errors(&task.errors);
        Ok(if self.wait.is_some() { exit_code(task.status) } else { ExitCode::SUCCESS })
    }

    pub(super) async fn result(self, client: &Client, out: Output) -> anyhow::Result<ExitCode> {
        let ask = async |wait| client.get_task_result(self.id, wait).await;
        let result = self.ask(ask, |result| result.status.is_finished()).await?;
        out.print(&result, |result| match &result.return_value {
            Some(value) => value.to_string(),
            None => result.status.to_string(),
        })?;
        out.print_errors(&result.errors);
        Ok(exit_code(result.status))
    }
}

impl One {
    pub(super) async fn explain(self, client: &Client, out: Output) -> anyhow::Result<ExitCode> {
        let explanation = client.explain_task(self.id).await?;
        out.print(&explanation, show_reasons)?;
        Ok(ExitCode::SUCCESS)
    }

    pub(super) async fn logs(self, client: &Client, out: Output) -> anyhow::Result<ExitCode> {
        const LINES: u32 = 1_000;
        let mut cursor: Option<String> = None;
        loop {
            let page = client.get_task_logs(self.id, cursor.as_deref(), Some(LINES)).await?;
            if out.json || !page.items.is_empty() {
                out.print(&page, show_lines)?;
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

/// Names tasks.
#[derive(Args)]
pub(super) struct Several {
    /// Ids of the tasks; the exit status is 0 if the command succeeded for each
    #[arg(required = true, value_name = "ID")]
    ids: Vec<Uuid>,
}

impl Several {
    pub(super) async fn retry(self, client: &Client, out: Output) -> anyhow::Result<ExitCode> {
        let retry = async |id| client.retry_task(id).await;
        self.each(out, retry, |task| task.status.to_string()).await
    }

    pub(super) async fn delete(self, client: &Client, out: Output) -> anyhow::Result<ExitCode> {
        let delete = async |id| {
            client.delete_task(id).await?;
            Ok(json!({ "id": id, "deleted": true }))
        };
        self.each(out, delete, |_| "deleted".to_owned()).await
    }

    /// Does the same to each, says what became of it, and goes on with the next whatever that was.
    async fn each<T: Serialize>(
        &self,
        out: Output,
        ask: impl AsyncFn(Uuid) -> Answer<T>,
        text: impl Fn(&T) -> String,
    ) -> anyhow::Result<ExitCode> {
        let mut code = ExitCode::SUCCESS;
        for &id in &self.ids {
            match ask(id).await {
                Ok(done) => out.print(&done, |done| format!("{id} {}", text(done)))?,
                Err(error) => {
                    code = ExitCode::from(FAILURE);
                    let why = format!("{:#}", anyhow::Error::from(error));
                    if out.json {
                        out.print(&json!({ "id": id, "error": why }), |_| String::new())?;
                    } else {
                        print(&format!("error: {id} {}", visible(&why)));
                    }
                }
            }
        }
        Ok(code)
    }
}

/// Cancel tasks.
#[derive(Args)]
pub(super) struct Cancel {
    #[command(flatten)]
    tasks: Several,
    /// End running attempts at once; without --force, executors have 10 seconds to stop
    #[arg(long)]
    force: bool,
}

impl Cancel {
    pub(super) async fn run(self, client: &Client, out: Output) -> anyhow::Result<ExitCode> {
        let cancel = async |id| client.cancel_task(id, self.force).await;
        let became = |task: &Task| {
            let asked = task.status == TaskStatus::Running;
            let more = if asked { ", its executor is asked to stop" } else { "" };
            format!("{}{more}", task.status)
        };
        self.tasks.each(out, cancel, became).await
    }
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "UPPER")]
enum StatusArg {
    Ready,
    Running,
    Successful,
    Failed,
    Cancelled,
}

impl From<StatusArg> for TaskStatus {
    fn from(status: StatusArg) -> Self {
        match status {
            StatusArg::Ready => Self::Ready,
            StatusArg::Running => Self::Running,
            StatusArg::Successful => Self::Successful,
            StatusArg::Failed => Self::Failed,
            StatusArg::Cancelled => Self::Cancelled,
        }
    }
}

/// List tasks, newest first.
#[derive(Args)]
pub(super) struct List {
    /// Only tasks with this status
    #[arg(long, ignore_case = true)]
    status: Option<StatusArg>,
    /// Only tasks of this queue
    #[arg(long, alias = "queue-name", value_name = "NAME")]
    queue: Option<String>,
    /// Only tasks with this task path; a * at its end matches a prefix
    #[arg(long)]
    task_path: Option<String>,
    /// Only tasks of this executor
    #[arg(long)]
    executor: Option<String>,
    /// Only tasks with this label
    #[arg(long, value_name = "KEY=VALUE")]
    label: Option<String>,
    /// Only tasks enqueued after this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    after: Option<Timestamp>,
    /// Only tasks enqueued before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    before: Option<Timestamp>,
    /// Largest number of tasks to show
    #[arg(long, default_value_t = 20)]
    limit: u32,
    /// Continue a list: the cursor that the list before has printed
    #[arg(long)]
    cursor: Option<String>,
}

impl List {
    pub(super) async fn run(self, client: &Client, out: Output) -> anyhow::Result<ExitCode> {
        if self.limit > 1_000 {
            bail!("--limit is at most 1000; read on with --cursor");
        }
        let filter = TaskFilter {
            status: self.status.map(Into::into),
            queue_name: self.queue,
            task_path: self.task_path,
            executor: self.executor,
            label: self.label,
            enqueued_after: self.after,
            enqueued_before: self.before,
            limit: Some(self.limit),
            cursor: self.cursor,
        };
        out.print(&client.list_tasks(&filter).await?, show_list)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn show_list(list: &TaskList) -> String {
    let rows = list.items.iter().map(|task| {
        vec![
            Cell::new(task.id),
            status_cell(task.status),
            Cell::new(&task.task_path),
            Cell::new(&task.queue_name),
            Cell::new(task.executor.as_deref().unwrap_or("-")),
            Cell::new(task.attempts),
            Cell::new(task.enqueued_at),
        ]
    });
    let head = ["id", "status", "task path", "queue", "executor", "attempts", "enqueued"];
    let more = match &list.next_cursor {
        Some(cursor) => format!("\nmore with --cursor {cursor}"),
        None => String::new(),
    };
    table(&head, rows.collect()) + &more
}

fn show(task: &Task) -> String {
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
    details(vec![
        ("id", Some(task.id.to_string())),
        ("status", Some(task.status.to_string())),
        ("task path", Some(task.task_path.clone())),
        ("args", Some(task.args.to_string())),
        ("kwargs", Some(task.kwargs.to_string())),
        ("queue", Some(task.queue_name.clone())),
        ("executor", task.executor.clone()),
        ("attempts", Some(format!("{} of {}", task.attempts, task.max_attempts))),
        ("progress", task.progress.as_ref().map(progress)),
        ("enqueued", time(Some(task.enqueued_at))),
        ("run after", time(task.run_after)),
        ("started", time(task.started_at)),
        ("finished", time(task.finished_at)),
        ("return value", task.return_value.as_ref().map(Json::to_string)),
    ])
}

fn show_reasons(explanation: &Explanation) -> String {
    let lines = explanation.reasons.iter().map(|reason| {
        let until = reason.until.map_or(String::new(), |until| format!(" (until {until})"));
        let executor =
            reason.executor.as_ref().map_or(String::new(), |name| format!(" [{}]", visible(name)));
        format!("{}{executor}: {}{until}", explanation.status, visible(&reason.detail))
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn show_lines(list: &LogList) -> String {
    list.items.iter().map(log_line).collect::<Vec<_>>().join("\n")
}
