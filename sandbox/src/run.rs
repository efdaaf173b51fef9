//! The inputs, limits and results of one run: the types by which the service calls the sandbox.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use crate::{Fault, bindings::nightshift::plugin::task_types, network::Reach};

/// One attempt at a task.
pub struct Run {
    /// The executor's name. Runs of one executor share connections and threads; runs of different
    /// executors do not.
    pub executor: String,
    pub task_path: String,
    /// A JSON array.
    pub args: String,
    /// A JSON object.
    pub kwargs: String,
    pub about: About,
    /// How long the run may take, the wait for a place included.
    pub time: Duration,
    pub grants: Grants,
    pub limits: Limits,
    pub journal: Arc<dyn Journal>,
}

/// Facts about the attempt that the plugin is told. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default)]
pub struct About {
    pub task_id: String,
    /// 1 for the first attempt.
    pub attempt: u32,
    pub max_attempts: u32,
    pub queue_name: String,
    pub priority: i32,
    pub enqueued_at_ms: u64,
    pub deadline_ms: u64,
    pub traceparent: Option<String>,
    pub labels: Vec<(String, String)>,
}

impl From<About> for task_types::TaskContext {
    fn from(about: About) -> Self {
        Self {
            task_id: about.task_id,
            attempt: about.attempt,
            max_attempts: about.max_attempts,
            queue_name: about.queue_name,
            priority: about.priority,
            enqueued_at_ms: about.enqueued_at_ms,
            deadline_ms: about.deadline_ms,
            traceparent: about.traceparent,
            labels: about.labels,
        }
    }
}

/// The hosts, folders and variables that a run may reach. By default it can reach nothing.
#[derive(Clone, Default)]
pub struct Grants {
    /// The hosts to which it may send HTTP requests.
    pub http: Option<Arc<dyn Reach>>,
    /// The directories that it may read.
    pub directories: Vec<Directory>,
    /// Its environment variables.
    pub environment: Vec<(String, String)>,
}

/// A directory that the plugin can read as `/data/NAME`.
#[derive(Clone, Debug)]
pub struct Directory {
    pub name: String,
    pub path: PathBuf,
}

/// The limits of one run, apart from its time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// MiB of all its memories together, and of the memory that the host holds for it.
    pub memory_mib: u32,
}

impl Limits {
    pub(crate) fn memory_bytes(self) -> usize {
        usize::try_from(self.memory_mib).unwrap_or(usize::MAX).saturating_mul(1024 * 1024)
    }
}

/// Receives log lines and progress of a plugin while it runs.
pub trait Journal: Send + Sync {
    fn log(&self, level: Level, line: String);
    /// `fraction` is passed on as the plugin gave it, unchecked.
    fn progress(&self, fraction: Option<f64>, message: Option<String>);
}

/// The level of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
}

/// How a run ended.
#[derive(Debug)]
pub enum Ending {
    /// It returned a text, which should be JSON.
    Returned(String),
    /// It returned an error of its own.
    Raised(Raised),
    /// It ended in a way that the plugin did not choose.
    Fault(Fault),
}

/// An error that a plugin reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    pub class: String,
    pub message: String,
    pub traceback: Option<String>,
    pub retryable: bool,
}

impl From<task_types::TaskError> for Raised {
    fn from(error: task_types::TaskError) -> Self {
        let task_types::TaskError { class, message, traceback, retryable } = error;
        Self { class, message, traceback, retryable }
    }
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grants")
            .field("http", &self.http.is_some())
            .field("directories", &self.directories)
            // The values may be secrets, so they are left out.
            .field(
                "environment",
                &self.environment.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            )
            .finish()
    }
}
