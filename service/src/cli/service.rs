//! Commands about the service as a whole.

use std::process::ExitCode;

use clap::Args;
use nightshift_client::{
    Client,
    types::{EndedCounts, PruneRequest, Pruned, Stats},
};

use super::{
    output::{Output, details},
    queue::queue_table,
};

/// Delete finished tasks that are older than the retention time
#[derive(Args)]
pub(super) struct Prune {
    /// Report how many tasks would be deleted, and delete none
    #[arg(long)]
    dry_run: bool,
    /// Retention time of successful and cancelled tasks [default: the service's setting]
    #[arg(long, value_name = "SECONDS")]
    retention_seconds: Option<i64>,
    /// Retention time of failed tasks [default: the service's setting]
    #[arg(long, value_name = "SECONDS")]
    retention_failed_seconds: Option<i64>,
}

pub(super) async fn stats(client: &Client, out: Output) -> anyhow::Result<ExitCode> {
    out.print(&client.get_stats().await?, show)?;
    Ok(ExitCode::SUCCESS)
}

fn show(stats: &Stats) -> String {
    let total = details(vec![
        ("due", Some(stats.due.to_string())),
        ("of these unrouted", Some(stats.unrouted.to_string())),
        ("scheduled", Some(stats.scheduled.to_string())),
        ("running", Some(stats.running.to_string())),
        ("ended", Some(counts(stats.ended))),
        ("in the last hour", Some(counts(stats.ended_last_hour))),
        ("in the last minute", Some(counts(stats.ended_last_minute))),
    ]);
    format!("{total}\n\n{}", queue_table(&stats.queues))
}

fn counts(ended: EndedCounts) -> String {
    let EndedCounts { successful, failed, cancelled } = ended;
    format!("{successful} successful, {failed} failed, {cancelled} cancelled")
}

impl Prune {
    pub(super) async fn run(self, client: &Client, out: Output) -> anyhow::Result<ExitCode> {
        let request = PruneRequest {
            dry_run: self.dry_run,
            retention_seconds: self.retention_seconds,
            retention_failed_seconds: self.retention_failed_seconds,
        };
        let mut total = client.prune_tasks(&request).await?;
        while total.remaining {
            let next = client.prune_tasks(&request).await?;
            total = Pruned { tasks: sum(total.tasks, next.tasks), remaining: next.remaining };
        }
        let did = if self.dry_run { "would delete" } else { "deleted" };
        out.print(&total, |total| format!("{did} {}", counts(total.tasks)))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn sum(a: EndedCounts, b: EndedCounts) -> EndedCounts {
    EndedCounts {
        successful: a.successful + b.successful,
        failed: a.failed + b.failed,
        cancelled: a.cancelled + b.cancelled,
    }
}
