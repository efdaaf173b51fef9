//! `nightshift worker`: takes tasks and runs a command for each.

mod command;
mod family;
mod process;
mod tail;

use std::{convert::Infallible, process::ExitCode, sync::Arc, time::Duration};

use clap::Args;
use nightshift_client::{
    Client, Error,
    types::ErrorCode,
    worker::{self, Stop},
};
use serde::de::IgnoredAny;

use self::{command::Command, family::Family};
use super::time::duration;
use crate::{config::LogFormat, entropy::Entropy, shutdown::StopSignals, telemetry};

/// How much longer than it may take to stop a command has, before nothing waits for its end.
const STOP_LONGER: Duration = Duration::from_secs(5);

/// Lease tasks of an executor and run a command for each.
///
/// The command gets {"args": [...], "kwargs": {...}} on standard input and NIGHTSHIFT_TASK_ID,
/// NIGHTSHIFT_TASK_PATH, NIGHTSHIFT_ATTEMPT, NIGHTSHIFT_MAX_ATTEMPTS, NIGHTSHIFT_QUEUE_NAME,
/// NIGHTSHIFT_DEADLINE, NIGHTSHIFT_LEASE_URL and TRACEPARENT in its environment. The task's return
/// value is the JSON that the command writes to file descriptor 3. If it writes none, its last line
/// on standard output is the return value: as JSON if the line is JSON, else as a string; without
/// any output, null. All other output lines go to the task's log.
///
/// Exit status 0: the task succeeded. 65: it failed and is not tried again. Any other status, or a
/// signal: the attempt failed; the last line on standard error is the error's message, and the last
/// lines are its traceback. When a task is cancelled, its command gets SIGTERM, and later SIGKILL.
/// Processes that a command leaves running are killed. Of the variables that begin with
/// NIGHTSHIFT_, the command inherits NIGHTSHIFT_SERVER only, so no token.
///
/// On SIGTERM, SIGINT or SIGHUP the worker leases no more tasks, waits for running commands, and
/// exits with status 0. On a second signal it stops the commands, too, and hands their tasks back.
/// Under nohup, SIGHUP is ignored.
#[derive(Args)]
pub(super) struct Worker {
    /// Executor of kind worker whose tasks to lease
    #[arg(long, value_name = "NAME")]
    executor: String,
    /// Number of commands to run at the same time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    concurrency: u32,
    /// Stop after this number of tasks [default: never]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    max_tasks: Option<u64>,
    /// Lease tasks of these queues only [default: all queues]
    #[arg(long, alias = "queue-name", value_name = "NAME")]
    queue: Option<Vec<String>>,
    /// Lease no tasks of these queues
    #[arg(long, alias = "exclude-queue-name", value_name = "NAME")]
    exclude_queue: Option<Vec<String>>,
    /// Name of the worker in the tasks' records [default: HOST.PID.RANDOM]
    #[arg(long = "worker-id", value_name = "ID")]
    id: Option<String>,
    /// Time from SIGTERM to SIGKILL when a command is stopped: seconds, or 90s, 5m
    #[arg(long, value_name = "TIME", default_value = "5", value_parser = duration)]
    kill_after: Duration,
    /// Format of the log: text for people, JSON for programs
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// The command and its arguments, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Worker {
    pub(super) async fn run(self, client: Client, server: String) -> anyhow::Result<ExitCode> {
        telemetry::init("info", self.log_format)?;
        let executor = self.executor.clone();
        let family = Family::new(Entropy::from_system().uuid().simple().to_string());
        let mut signals = StopSignals::listen()?;
        let stop = Stop::default();
        let stopping = async {
            signals.next().await;
            tracing::info!("taking no more tasks; a second signal stops those that run");
            stop.drain();
            signals.next().await;
            stop.at_once();
            std::future::pending::<Infallible>().await
        };
        let worked = tokio::select! {
            worked = self.worker(client, server, &family).run_until(&stop) => worked,
            never = stopping => match never {},
            lost = Arc::clone(&family).look_after() => match lost? {},
        };
        family.end().await;
        worked.map_err(|error| advised(error, &executor))?;
        Ok(ExitCode::SUCCESS)
    }

    fn worker(self, client: Client, server: String, family: &Arc<Family>) -> worker::Worker {
        let kill_after = self.kill_after;
        let family = Arc::clone(family);
        let command = Arc::new(Command { words: self.command, server, family, kill_after });
        let mut worker = worker::Worker::new(client, self.executor)
            .task("*", move |context, _: IgnoredAny| {
                let command = Arc::clone(&command);
                async move { command.run(context).await }
            })
            .concurrency(self.concurrency)
            // Whoever wants to wait no longer sends a second signal.
            .grace(Duration::MAX)
            .stop_within(kill_after + STOP_LONGER);
        if let Some(tasks) = self.max_tasks {
            worker = worker.max_tasks(tasks);
        }
        if let Some(names) = self.queue {
            worker = worker.queue_names(names);
        }
        if let Some(names) = self.exclude_queue {
            worker = worker.exclude_queue_names(names);
        }
        match self.id {
            Some(id) => worker.id(id),
            None => worker,
        }
    }
}

/// The error, and what to do about it.
fn advised(error: Error, executor: &str) -> anyhow::Error {
    if error.code() != Some(ErrorCode::ExecutorNotFound) {
        return error.into();
    }
    anyhow::Error::from(error).context(format!(
        "register it first: nightshift executor put {executor} --task-path 'myapp.*'"
    ))
}
