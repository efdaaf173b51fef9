use std::fmt;

use comfy_table::Color;
use serde::Serialize;
use serde_json::Value;

use crate::{
    cli::output::{Cell, table},
    config::Setting,
};

/// All that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Nothing has failed.
    pub(super) ok: bool,
    settings: Vec<Setting>,
    checks: Vec<Check>,
}

/// What was looked at, and what came of it.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    name: String,
    status: Status,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warn,
    Fail,
}

impl Check {
    pub(super) fn ok(name: impl Into<String>, message: impl fmt::Display) -> Self {
        Self::new(name, Status::Ok, message)
    }

    pub(super) fn warn(name: impl Into<String>, message: impl fmt::Display) -> Self {
        Self::new(name, Status::Warn, message)
    }

    pub(super) fn fail(name: impl Into<String>, message: impl fmt::Display) -> Self {
        Self::new(name, Status::Fail, message)
    }

    /// An error is shown with its causes.
    fn new(name: impl Into<String>, status: Status, message: impl fmt::Display) -> Self {
        Self { name: name.into(), status, message: format!("{message:#}") }
    }
}

impl Report {
    pub(super) fn new(settings: Vec<Setting>, checks: Vec<Check>) -> Self {
        let ok = checks.iter().all(|check| check.status != Status::Fail);
        Self { ok, settings, checks }
    }

    /// For people.
    pub(super) fn show(&self) -> String {
        let checks = table(&["", "what", ""], self.checks.iter().map(check_row).collect());
        if self.settings.is_empty() {
            return checks;
        }
        let rows = self.settings.iter().map(setting_row).collect();
        format!("{}\n\n{checks}", table(&["setting", "value", "from"], rows))
    }
}

fn check_row(check: &Check) -> Vec<Cell> {
    let (word, color) = match check.status {
        Status::Ok => ("ok", Color::Green),
        Status::Warn => ("warn", Color::Yellow),
        Status::Fail => ("fail", Color::Red),
    };
    vec![Cell::new(word).fg(color), Cell::new(&check.name), Cell::new(&check.message)]
}

fn setting_row(setting: &Setting) -> Vec<Cell> {
    let value = match &setting.value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            other.to_string()
        }
    };
    vec![Cell::new(&setting.name), Cell::new(value), Cell::new(&setting.source)]
}
