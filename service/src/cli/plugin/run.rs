use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::Args;
use nightshift_client::types::Json;
use nightshift_sandbox::{
    About, Directory, Ending, Fault, FaultKind, Grants, Journal, Level, Limits, Raised,
    Run as Attempt,
};
use serde::Serialize;

use super::{check::inspect, measure::measure};
use crate::{
    cli::{executor::variable, output::Output, visible::visible},
    domain::{grants::HttpHost, plugin::MEMORY_MIB_DEFAULT, retry},
    plugin::Hosts,
    telemetry::print,
};

/// Exit status of a task that did not succeed.
const UNSUCCESSFUL: u8 = 1;

#[derive(Args)]
pub(in crate::cli) struct Run {
    /// The component
    file: PathBuf,
    /// Path of the task to run
    task_path: String,
    /// Positional arguments, as a JSON array
    #[arg(long, default_value = "[]", value_name = "JSON")]
    args: Json,
    /// Keyword arguments, as a JSON object
    #[arg(long, default_value = "{}", value_name = "JSON")]
    kwargs: Json,
    /// Host that the plugin may send HTTP requests to
    #[arg(long, value_name = "HOST[:PORT]")]
    http: Vec<HttpHost>,
    /// Directory that the plugin may read, as /data/NAME
    #[arg(long, value_name = "NAME=PATH", value_parser = directory)]
    directory: Vec<Directory>,
    /// Environment variable of the plugin
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Memory limit, in MiB
    #[arg(long, default_value_t = MEMORY_MIB_DEFAULT, value_name = "MIB",
        value_parser = clap::value_parser!(u32).range(1..=4096))]
    memory_mib: u32,
    /// Time limit
    #[arg(long, default_value = "300", value_name = "SECONDS", value_parser = timeout)]
    timeout: Duration,
    /// Then run it this many times more without output, and report the time per run
    #[arg(long, value_name = "TIMES")]
    repeat: Option<u32>,
    /// Number of those runs at the same time
    #[arg(long, default_value_t = 1, requires = "repeat", value_name = "NUMBER")]
    at_once: usize,
}

fn timeout(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_malformed| "is not a number".to_owned())?;
    retry::timeout(seconds).map_err(|invalid| invalid.reason)
}

fn directory(text: &str) -> Result<Directory, String> {
    let (name, path) = variable(text)?;
    Ok(Directory { name, path: path.into() })
}

/// An error that the plugin raised, or in which it ended.
#[derive(Serialize)]
struct Failed {
    class: String,
    message: String,
    traceback: Option<String>,
    retryable: bool,
}

impl Run {
    pub(super) async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let (plugins, inspected) = inspect(&self.file).await?;
        let sandbox = plugins.sandbox().await?;
        let ending = sandbox.run(&inspected.plugin, self.attempt(Arc::new(Shown))).await;
        if let Some(times) = self.repeat {
            let silent = || sandbox.run(&inspected.plugin, self.attempt(Arc::new(Silent)));
            let measured = measure(times, self.at_once, silent).await;
            print(&measured.to_string());
        }
        match ended(ending) {
            Ok(value) => {
                out.print(&value, ToString::to_string)?;
                Ok(ExitCode::SUCCESS)
            }
            Err(failed) => {
                out.print(&failed, |failed| {
                    let Failed { class, message, traceback, retryable } = failed;
                    let again = if *retryable { "may be tried again" } else { "is final" };
                    let traceback = traceback.as_deref().unwrap_or_default().trim_end();
                    format!("{}: {message} ({again})\n{traceback}", visible(class))
                })?;
                Ok(ExitCode::from(UNSUCCESSFUL))
            }
        }
    }

    fn attempt(&self, journal: Arc<dyn Journal>) -> Attempt {
        Attempt {
            executor: "plugin run".to_owned(),
            task_path: self.task_path.clone(),
            args: self.args.as_str().to_owned(),
            kwargs: self.kwargs.as_str().to_owned(),
            about: About {
                task_id: "00000000-0000-0000-0000-000000000000".to_owned(),
                attempt: 1,
                max_attempts: 1,
                queue_name: "default".to_owned(),
                ..About::default()
            },
            time: self.timeout,
            grants: Grants {
                http: Some(Arc::new(Hosts(self.http.clone()))),
                directories: self.directory.clone(),
                environment: self.env.clone(),
            },
            limits: Limits { memory_mib: self.memory_mib },
            journal,
        }
    }
}

/// The value, or why there is none.
fn ended(ending: Ending) -> Result<Json, Failed> {
    match ending {
        Ending::Returned(text) => text.parse().map_err(|error: serde_json::Error| Failed {
            class: "Rejected".to_owned(),
            message: format!("what the plugin returned is not JSON ({error}): {text}"),
            traceback: None,
            retryable: false,
        }),
        Ending::Raised(Raised { class, message, traceback, retryable }) => {
            Err(Failed { class, message, traceback, retryable })
        }
        Ending::Fault(Fault { kind, message, traceback }) => {
            // As the service has it.
            let retryable = match kind {
                FaultKind::Timeout | FaultKind::NotStarted => true,
                FaultKind::Trap
                | FaultKind::StackOverflow
                | FaultKind::OutOfMemory
                | FaultKind::Exit
                | FaultKind::TooLarge
                | FaultKind::Cancelled => false,
            };
            Err(Failed { class: format!("{kind:?}"), message, traceback, retryable })
        }
    }
}

/// Shows what the plugin says, beside its result.
struct Shown;

impl Journal for Shown {
    fn log(&self, level: Level, line: String) {
        print(&format!("{level:?}: {}", visible(&line)));
    }

    fn progress(&self, fraction: Option<f64>, message: Option<String>) {
        let percent = fraction.map(|fraction| format!("{:.0} % ", fraction * 100.0));
        let message = message.unwrap_or_default();
        print(&format!("{}{}", percent.unwrap_or_default(), visible(&message)));
    }
}

/// Hears nothing.
struct Silent;

impl Journal for Silent {
    fn log(&self, _level: Level, _line: String) {}
    fn progress(&self, _fraction: Option<f64>, _message: Option<String>) {}
}
