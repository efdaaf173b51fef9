//! What Nightshift calls: the list of tasks, JSON in and out, errors as task-errors.

use crate::plan::{Stopped, plan};
use crate::request::{InvalidArguments, Request};
use exports::nightshift::plugin::tasks::{Guest, TaskContext, TaskError, TaskInfo};
use nightshift::plugin::host;
use nightshift::plugin::task_types::TaskDefaults;

wit_bindgen::generate!({ path: "../../wit", world: "plugin" });
export!(Plugin);

const VISIBILITY: &str = "observing.visibility";

struct Plugin;

impl Guest for Plugin {
    fn describe() -> Vec<TaskInfo> {
        vec![TaskInfo {
            path: VISIBILITY.into(),
            summary: "When a target can be observed from a site".into(),
            description: Some(include_str!("description.md").into()),
            defaults: TaskDefaults { timeout_ms: Some(60_000), max_attempts: Some(2) },
        }]
    }

    fn run(
        _context: TaskContext,
        task_path: String,
        args: String,
        kwargs: String,
    ) -> Result<String, TaskError> {
        match task_path.as_str() {
            VISIBILITY => visibility(&args, &kwargs),
            _ => Err(final_error("UnknownTask", format!("there is no task {task_path}"))),
        }
    }
}

fn visibility(args: &str, kwargs: &str) -> Result<String, TaskError> {
    let request = Request::parse(args, kwargs)?;
    let plan = plan(&request, &go_on)?;
    Ok(serde_json::to_string(&plan).expect("a plan holds nothing that JSON cannot"))
}

fn go_on(fraction: f64) -> bool {
    host::progress(Some(fraction), None);
    !host::cancelled()
}

impl From<InvalidArguments> for TaskError {
    fn from(InvalidArguments(message): InvalidArguments) -> Self {
        final_error("InvalidArguments", message)
    }
}

impl From<Stopped> for TaskError {
    fn from(_: Stopped) -> Self {
        let message = "cancelled, or out of time".into();
        TaskError { class: "Stopped".into(), message, traceback: None, retryable: true }
    }
}

/// An error that the same arguments would meet again.
fn final_error(class: &str, message: String) -> TaskError {
    TaskError { class: class.into(), message, traceback: None, retryable: false }
}
