use std::{collections::BTreeMap, process::ExitCode};

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nightshift_client::types::TaskStatus;
use serde::Serialize;

use super::{
    output::{Cell, Output, table},
    warn,
};
use crate::{
    config::{Config, Database},
    domain::state::Stage,
    store::{self, Copied},
};

/// Copy everything into an empty database of either engine; stop the service before.
///
/// The command compares both databases row by row before it commits; until then, the target stays
/// empty. Run it as the user of the service, and into PostgreSQL as the role of the service. If
/// root runs it, the files of an SQLite database get the owner of their folder.
#[derive(Args)]
pub(super) struct Copy {
    /// Database to read: sqlite://PATH or postgres://...; it is not changed
    #[arg(long, value_name = "URL")]
    from: String,
    /// Database to fill: sqlite://PATH or postgres://...; it must be empty
    #[arg(long, value_name = "URL")]
    to: String,
}

#[derive(Serialize)]
struct Summary {
    tasks: BTreeMap<String, u64>,
    tables: Vec<TableSummary>,
}

#[derive(Serialize)]
struct TableSummary {
    name: String,
    rows: u64,
    sha256: String,
}

impl Copy {
    pub(super) fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let from = database(self.from).context("--from")?;
        let to = database(self.to).context("--to")?;
        warn(store::check_owner(&to).context("--to")?);
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {msg}")?);
        let copied = store::copy(&from, &to, &mut |progress| {
            bar.set_length(progress.of);
            bar.set_position(progress.done);
            if progress.done % 1_000 == 1 {
                bar.set_message(format!("{} {}", progress.table, progress.doing));
            }
        });
        bar.finish_and_clear();
        out.print(&summary(copied?), text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// With the settings that nobody changes for a copy.
fn database(url: String) -> anyhow::Result<Database> {
    Config { database_url: url, ..Config::default() }.database()
}

fn summary(copied: Copied) -> Summary {
    let mut tasks = BTreeMap::new();
    for (stage, count) in copied.stages {
        *tasks.entry(status(stage).to_string()).or_insert(0) += count;
    }
    let tables = copied.tables.into_iter();
    let tables = tables.map(|table| TableSummary {
        name: table.name,
        rows: table.rows,
        sha256: table.digest,
    });
    Summary { tasks, tables: tables.collect() }
}

fn status(stage: Stage) -> TaskStatus {
    match stage {
        Stage::Scheduled | Stage::Available => TaskStatus::Ready,
        Stage::Running => TaskStatus::Running,
        Stage::Successful => TaskStatus::Successful,
        Stage::Failed => TaskStatus::Failed,
        Stage::Cancelled => TaskStatus::Cancelled,
    }
}

fn text(summary: &Summary) -> String {
    let rows = summary.tables.iter();
    let rows = rows.map(|row| vec![Cell::new(&row.name), Cell::new(row.rows)]).collect();
    let tasks: Vec<String> =
        summary.tasks.iter().map(|(status, count)| format!("{status} {count}")).collect();
    format!(
        "{}\n\ntasks: {}\nboth sides are equal",
        table(&["table", "rows"], rows),
        if tasks.is_empty() { "none".to_owned() } else { tasks.join(", ") }
    )
}
