//! Runs attempts as plugins, in a sandbox of this process: gets the right version ready, grants
//! what the executor's registration allows, and translates the end of the run into an [`Outcome`].

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use nightshift_sandbox::{
    About, Directory, Ending, Fault, FaultKind, Grants, Journal as SandboxJournal, Level, Limits,
    Raised, Reach, Run,
};

use super::{Answer, Journal, Work, returned::returned};
use crate::{
    domain::{
        Timestamp,
        attempt::{Failure, FailureKind, LogLevel, Outcome, Progress},
        executor::Target,
        grants::Grants as Granted,
        lease::Assignment,
        names::PluginName,
        plugin::Digest,
    },
    plugin::{Components, Hosts, Plugins},
};

/// Runs attempts as plugins.
pub struct WasmExecutor {
    pub plugins: Arc<Plugins>,
    pub components: Arc<dyn Components>,
    /// The directories that may be granted, by name.
    pub directories: BTreeMap<String, PathBuf>,
    /// Bytes that a return value may have; a longer one fails the attempt.
    pub return_value_bytes_max: usize,
}

impl WasmExecutor {
    pub(super) async fn execute(&self, work: Work<'_>, now: Timestamp) -> Answer {
        Answer::Ended(match self.run(work, now).await {
            Ok(ending) => self.outcome(ending),
            Err(reason) => Outcome::Undelivered { reason, retry_after: None },
        })
    }

    /// Runs the plugin. An error says why the run could not begin.
    async fn run(&self, work: Work<'_>, now: Timestamp) -> Result<Ending, String> {
        let Work { executor, assignment, inputs, journal, .. } = work;
        let (Target::Wasm { plugin, memory_mib, grants }, Some(version)) =
            (&executor.registration.target, &executor.version)
        else {
            return Err("the executor has no plugin".to_owned());
        };
        let cannot = |error: anyhow::Error| format!("the plugin {plugin} cannot run: {error:#}");
        let grants = self.grants(grants)?;
        let time = Duration::try_from(assignment.deadline.duration_since(now)).unwrap_or_default();
        let began = Instant::now();
        // A version that another process installed has to be compiled here first, which may take
        // longer than the task has. Half of its time is left for the run; if that is not enough,
        // compiling goes on for the next attempt.
        let getting = self.plugins.get(plugin, version.digest, &self.components);
        let ready = tokio::time::timeout(time / 2, getting)
            .await
            .map_err(|_elapsed| format!("the plugin {plugin} is not ready yet"))?
            .map_err(cannot)?;
        let sandbox = self.plugins.sandbox().await.map_err(cannot)?;
        let run = Run {
            executor: executor.registration.name.to_string(),
            task_path: assignment.task.content.task_path.to_string(),
            args: inputs.args.as_str().to_owned(),
            kwargs: inputs.kwargs.as_str().to_owned(),
            about: about(assignment),
            time: time.saturating_sub(began.elapsed()),
            grants,
            limits: Limits { memory_mib: *memory_mib },
            journal: Arc::new(Record(journal)),
        };
        // The run has its own copy now, and may take long.
        drop(inputs);
        Ok(sandbox.run(&ready, run).await)
    }

    fn grants(&self, granted: &Granted) -> Result<Grants, String> {
        let mut directories = Vec::with_capacity(granted.directories.len());
        for name in &granted.directories {
            let path = self.directories.get(name.as_str()).ok_or_else(|| {
                format!("the directory {name} is not among plugin_directories of this service")
            })?;
            directories.push(Directory { name: name.to_string(), path: path.clone() });
        }
        Ok(Grants {
            http: (!granted.http.is_empty())
                .then(|| Arc::new(Hosts(granted.http.clone())) as Arc<dyn Reach>),
            directories,
            environment: granted.environment.clone().into_iter().collect(),
        })
    }

    /// The outcome of an attempt whose run ended so.
    fn outcome(&self, ending: Ending) -> Outcome {
        match ending {
            Ending::Returned(value) if value.len() > self.return_value_bytes_max => {
                let bytes_max = self.return_value_bytes_max;
                let message = format!("the plugin's return value has more than {bytes_max} bytes");
                Outcome::Failed(Failure::new(FailureKind::Rejected, message))
            }
            Ending::Returned(value) => returned(value.as_bytes(), "plugin's"),
            Ending::Raised(Raised { class, message, traceback, retryable }) => {
                let base = Failure::new(FailureKind::Exception, message);
                let class = Some(class).filter(|class| !class.is_empty());
                let exception_class_path = class;
                Outcome::Failed(Failure { exception_class_path, traceback, retryable, ..base })
            }
            Ending::Fault(Fault { kind: FaultKind::NotStarted, message, .. }) => {
                Outcome::Undelivered { reason: message, retry_after: None }
            }
            Ending::Fault(Fault { kind: FaultKind::Cancelled, .. }) => Outcome::Cancelled,
            Ending::Fault(Fault { kind, message, traceback }) => {
                let (kind, class) = fault(kind);
                let exception_class_path = Some(class.to_owned());
                let base = Failure::new(kind, message);
                Outcome::Failed(Failure { exception_class_path, traceback, ..base })
            }
        }
    }

    /// Compiles a plugin before its first task comes.
    pub async fn warm_up(&self, name: &PluginName, digest: Digest) {
        if let Err(error) = self.plugins.get(name, digest, &self.components).await {
            tracing::warn!(plugin = %name, error = %format!("{error:#}"), "a plugin is not ready");
        }
    }
}

/// The kind of failure and the name for each kind of fault: the table of docs/PLUGINS.md.
fn fault(kind: FaultKind) -> (FailureKind, &'static str) {
    match kind {
        FaultKind::Trap | FaultKind::NotStarted | FaultKind::Cancelled => {
            (FailureKind::Trap, "wasm.Trap")
        }
        FaultKind::StackOverflow => (FailureKind::Trap, "wasm.StackOverflow"),
        FaultKind::OutOfMemory => (FailureKind::Trap, "wasm.OutOfMemory"),
        FaultKind::Exit => (FailureKind::Trap, "wasm.Exit"),
        FaultKind::Timeout => (FailureKind::Timeout, "wasm.Timeout"),
        FaultKind::TooLarge => (FailureKind::Rejected, "wasm.TooLarge"),
    }
}

fn about(assignment: &Assignment) -> About {
    let task = &assignment.task;
    About {
        task_id: task.id.to_string(),
        attempt: assignment.attempt(),
        max_attempts: assignment.max_attempts,
        queue_name: task.content.queue_name.to_string(),
        priority: task.content.priority.into(),
        enqueued_at_ms: milliseconds(task.times.enqueued_at),
        deadline_ms: milliseconds(assignment.deadline),
        traceparent: assignment.traceparent.clone(),
        labels: task.content.labels.clone().into_iter().collect(),
    }
}

fn milliseconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or(0)
}

/// Passes log lines and progress of a plugin to the attempt's journal.
struct Record(Arc<Journal>);

impl SandboxJournal for Record {
    fn log(&self, level: Level, line: String) {
        let level = match level {
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warning => LogLevel::Warning,
            Level::Error => LogLevel::Error,
        };
        self.0.log(level, line);
    }

    fn progress(&self, fraction: Option<f64>, message: Option<String>) {
        // A fraction outside of 0 to 1 is left out, since it is no reason to fail the attempt.
        let fraction = fraction.filter(|fraction| (0.0..=1.0).contains(fraction));
        if let Ok(progress) = Progress::new(fraction, message) {
            self.0.progress(progress);
        }
    }
}
