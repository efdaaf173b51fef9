//! Prints for people or, with `--json`, for programs.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use comfy_table::{Color, ContentArrangement, Table, presets};
use nightshift_client::types::{LogLine, Progress, TaskError, TaskStatus};
use serde::Serialize;

use super::visible::{coloured, visible, visible_lines};
use crate::telemetry::{print, takes_colours};

/// Exit status when the task ended without success.
const UNSUCCESSFUL: u8 = 1;
/// Exit status when the task has not ended.
pub(super) const UNFINISHED: u8 = 3;

/// Exit status when nobody reads standard output any more: what shells show for a program that ends
/// by SIGPIPE, as most do then.
pub(super) const NOBODY_READS: u8 = 141;

/// The reader of the first lines has seen enough: the command ends, and says nothing of it.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads standard output")]
pub(super) struct NobodyReads;

/// Writes a line to standard output.
pub(super) fn say(line: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n")) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(NobodyReads.into()),
        written => Ok(written?),
    }
}

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    pub(super) json: bool,
}

impl Output {
    /// Prints the value as JSON, or what `text` makes of it.
    pub(super) fn print<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        let line = if self.json { serde_json::to_string(value)? } else { text(value) };
        let coloured_here = !self.json && io::stdout().is_terminal();
        let line = if coloured_here { coloured(&line).into() } else { visible_lines(&line) };
        say(&line)
    }

    /// Says on standard error why a task did not succeed.
    pub(super) fn print_errors(self, errors: &[TaskError]) {
        if self.json {
            return;
        }
        for error in errors {
            let class = error.exception_class_path.as_deref().unwrap_or("");
            let kind = format!("{:?}", error.kind).to_lowercase();
            let (class, message) = (visible(class), visible_lines(&error.message));
            print(&format!("attempt {}: {kind} {class}: {message}", error.attempt));
            if let Some(traceback) = &error.traceback {
                print(&visible_lines(traceback.trim_end()));
            }
        }
    }
}

/// The exit status that tells programs how a task ended.
pub(super) fn exit_code(status: TaskStatus) -> ExitCode {
    match status {
        TaskStatus::Successful => ExitCode::SUCCESS,
        TaskStatus::Failed | TaskStatus::Cancelled => ExitCode::from(UNSUCCESSFUL),
        TaskStatus::Ready | TaskStatus::Running => ExitCode::from(UNFINISHED),
    }
}

/// A cell of a table.
pub(super) struct Cell(comfy_table::Cell);

impl Cell {
    #[expect(clippy::needless_pass_by_value, reason = "what is shown is had by value or not")]
    pub(super) fn new(content: impl ToString) -> Self {
        Self(comfy_table::Cell::new(visible(&content.to_string())))
    }

    pub(super) fn fg(self, color: Color) -> Self {
        Self(self.0.fg(color))
    }
}

/// A table without lines, whose colours go away where they would not be seen.
pub(super) fn table(head: &[&str], rows: Vec<Vec<Cell>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if !takes_colours(&io::stdout()) {
        table.force_no_tty();
    }
    table.set_header(head.iter().map(|name| name.to_uppercase()));
    table.add_rows(rows.into_iter().map(|row| row.into_iter().map(|cell| cell.0)));
    table.trim_fmt()
}

/// Names on the left, values on the right; rows without a value are left out.
pub(super) fn details(rows: Vec<(&str, Option<String>)>) -> String {
    let shown: Vec<_> = rows.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let width = shown.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = shown
        .into_iter()
        .map(|(name, value)| format!("{name:width$}  {}", visible(&value)))
        .collect();
    lines.join("\n")
}

/// Per cent and message.
pub(super) fn progress(progress: &Progress) -> String {
    let percent = progress.fraction.map_or(String::new(), |f| format!("{:.0} % ", f * 100.0));
    percent + &visible(progress.message.as_deref().unwrap_or(""))
}

/// A line of a task's log.
pub(super) fn log_line(line: &LogLine) -> String {
    let level = format!("{:?}", line.level).to_uppercase();
    format!("{} {level:7} {}", line.at, visible(&line.message))
}

pub(super) fn status_cell(status: TaskStatus) -> Cell {
    let color = match status {
        TaskStatus::Ready => Color::Blue,
        TaskStatus::Running => Color::Yellow,
        TaskStatus::Successful => Color::Green,
        TaskStatus::Failed => Color::Red,
        TaskStatus::Cancelled => Color::Grey,
    };
    Cell::new(status).fg(color)
}
