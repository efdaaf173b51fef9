//! Commands about tasks that have been enqueued.

use std::{process::ExitCode, time::Duration};

use anyhow::bail;
use clap::{Args, ValueEnum};
use nightshift_client::{
    Client, TaskFilter,
    types::{Explanation, Json, LogList, Task, TaskList, TaskStatus, Timestamp},
};
use uuid::Uuid;

use super::{
    output::{Cell, Output, details, exit_code, log_line, progress, status_cell, table},
    visible::visible,
};

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
    /// Wait so long for its end; the exit status tells how it ended
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
}

impl OneWaiting {
    fn limit(&self) -> Option<Duration> {
        self.wait.map(Duration::from_secs)
    }

    pub(super) async fn get(self, client: &Client, out: Output) -> anyhow::Result<ExitCode> {
        let task = client.get_task(self.id, self.limit()).await?;
        out.print(&task, show)?;
        out.print_errors(&task.errors);
        Ok(if self.wait.is_some() { exit_code(task.status) } else { ExitCode::SUCCESS })
    }

    pub(super) async fn result(self, client: &Client, out: Output) -> anyhow::Result<ExitCode> {
        let result = client.get_task_result(self.id, self.limit()).await?;
        out.print(&result, |result| match &result.return_value {
            Some(value) => value.to_string(),
            None => result.status.to_string(),
        })?;
        out.print_errors(&result.errors);
        Ok(exit_code(result.status))
    }
}

impl One {
    pub(super) async fn retry(self, client: &Client, out: Output) -> anyhow::Result<ExitCode> {
        let task = client.retry_task(self.id).await?;
        out.print(&task, show)?;
        Ok(ExitCode::SUCCESS)
    }

    pub(super) async fn delete(self, client: &Client) -> anyhow::Result<ExitCode> {
        client.delete_task(self.id).await?;
        Ok(ExitCode::SUCCESS)
    }

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

/// Cancel a task.
#[derive(Args)]
pub(super) struct Cancel {
    /// The task's id
    id: Uuid,
    /// End a running attempt at once instead of giving its executor 10 seconds to stop
    #[arg(long)]
    force: bool,
}

impl Cancel {
    pub(super) async fn run(self, client: &Client, out: Output) -> anyhow::Result<ExitCode> {
        let task = client.cancel_task(self.id, self.force).await?;
        out.print(&task, |task| {
            if task.status == TaskStatus::Running {
                return "its executor is asked to stop".to_owned();
            }
            task.status.to_string()
        })?;
        Ok(ExitCode::SUCCESS)
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
    #[arg(long)]
    queue: Option<String>,
    /// Only tasks with this path, or, ending with *, with this prefix
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
    /// So many tasks at most
    #[arg(long, default_value_t = 20)]
    limit: u32,
    /// Read on where another list ended
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
