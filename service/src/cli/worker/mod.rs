//! `nightshift worker`: takes tasks and runs a command for each.

mod attempt;
mod heart;
mod logs;
mod process;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use clap::Args;
use nightshift_client::{
    Client, Error,
    types::{ErrorCode, LeaseRequest},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::attempt::Attempt;
use crate::{config::LogFormat, shutdown::StopSignals, telemetry};

/// How long one request waits for tasks.
const WAIT_SECONDS: i64 = 20;
/// Pauses after requests that failed: the first, and the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Take tasks and run a command for each.
///
/// The command gets {"args": [...], "kwargs": {...}} on standard input and NIGHTSHIFT_TASK_ID,
/// NIGHTSHIFT_TASK_PATH, NIGHTSHIFT_ATTEMPT, NIGHTSHIFT_MAX_ATTEMPTS, NIGHTSHIFT_QUEUE_NAME,
/// NIGHTSHIFT_DEADLINE, NIGHTSHIFT_LEASE_URL and TRACEPARENT in its environment. The task's
/// return value is what it writes to file descriptor 3, as JSON, or else its last line on
/// standard output: the JSON that it is, or the line as a string; nothing is null. All other
/// lines of its output go to the task's log.
///
/// Exit status 0: the task succeeded. 65: it failed, and trying again is of no use. Any other,
/// or a signal: it failed. A cancelled task's command gets SIGTERM, and SIGKILL later.
///
/// SIGTERM or SIGINT: take no more tasks, wait for what runs, and stop with status 0. A second
/// one: stop the commands, too, and hand their tasks back.
#[derive(Args)]
pub(super) struct Worker {
    /// The executor whose tasks to take; its kind is worker
    #[arg(long, value_name = "NAME")]
    executor: String,
    /// Commands that run at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    concurrency: u32,
    /// Stop after so many tasks [default: never]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    max_tasks: Option<u64>,
    /// Take tasks of these queues only [default: of all]
    #[arg(long, value_name = "NAME")]
    queue_name: Option<Vec<String>>,
    /// Take no tasks of these queues
    #[arg(long, value_name = "NAME")]
    exclude_queue_name: Option<Vec<String>>,
    /// How the worker is called in the tasks' records [default: HOST.PID]
    #[arg(long = "worker-id", value_name = "ID")]
    id: Option<String>,
    /// How long a command may take to stop after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    kill_after: u64,
    /// Log as text for people or JSON for programs
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// The command and its arguments, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// What all attempts of a worker share.
struct Work {
    client: Client,
    server: String,
    command: Vec<String>,
    kill_after: Duration,
    /// Stop the commands.
    hurry: CancellationToken,
}

impl Worker {
    pub(super) async fn run(self, client: Client, server: String) -> anyhow::Result<ExitCode> {
        telemetry::init("info", self.log_format)?;
        let mut signals = StopSignals::listen()?;
        let drain = CancellationToken::new();
        let work = Arc::new(Work {
            client,
            server,
            command: self.command.clone(),
            kill_after: Duration::from_secs(self.kill_after),
            hurry: CancellationToken::new(),
        });
        let working = tokio::spawn(self.work(Arc::clone(&work), drain.clone()));
        let stopping = tokio::spawn(async move {
            signals.next().await;
            tracing::info!("taking no more tasks; a second signal stops those that run");
            drain.cancel();
            signals.next().await;
            work.hurry.cancel();
        });
        working.await.context("the worker panicked")??;
        stopping.abort();
        Ok(ExitCode::SUCCESS)
    }

    /// Takes tasks as long as there is room, until told to stop or enough were taken.
    async fn work(self, work: Arc<Work>, drain: CancellationToken) -> anyhow::Result<()> {
        let mut request = LeaseRequest {
            worker_id: self.id.clone().unwrap_or_else(default_worker_id),
            max_tasks: None,
            wait_seconds: Some(WAIT_SECONDS),
            queue_names: self.queue_name.clone(),
            exclude_queue_names: self.exclude_queue_name.clone(),
        };
        tracing::info!(executor = self.executor, worker.id = request.worker_id, "taking tasks");
        let mut attempts = JoinSet::new();
        let mut left = self.max_tasks.unwrap_or(u64::MAX);
        let mut pause = Pause::default();
        while left > 0 && !drain.is_cancelled() {
            while attempts.try_join_next().is_some() {}
            let running = u32::try_from(attempts.len()).unwrap_or(u32::MAX);
            let room = u64::from(self.concurrency.saturating_sub(running)).min(left);
            if room == 0 {
                tokio::select! {
                    _ = attempts.join_next() => {}
                    () = drain.cancelled() => {}
                }
                continue;
            }
            request.max_tasks = i64::try_from(room).ok();
            let leased = tokio::select! {
                leased = work.client.lease_tasks(&self.executor, &request) => leased,
                () = drain.cancelled() => break,
            };
            match leased {
                Ok(list) => {
                    pause.end();
                    for lease in list.leases {
                        left = left.saturating_sub(1);
                        attempts.spawn(Attempt::new(Arc::clone(&work), lease).run());
                    }
                }
                Err(error) => {
                    let wait = pause.after(error, &self.executor)?;
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = drain.cancelled() => {}
                    }
                }
            }
        }
        while attempts.join_next().await.is_some() {}
        tracing::info!("stopped");
        Ok(())
    }
}

/// How long to wait after requests that failed in a row.
#[derive(Default)]
struct Pause(Option<Duration>);

impl Pause {
    /// The next pause, or the error where waiting is of no use.
    fn after(&mut self, error: Error, executor: &str) -> anyhow::Result<Duration> {
        if error.code() == Some(ErrorCode::ExecutorNotFound) {
            return Err(error).with_context(|| {
                format!(
                    "register it first: nightshift executor put {executor} --task-path 'myapp.*'"
                )
            });
        }
        if !error.is_transient() {
            return Err(error.into());
        }
        if self.0.is_none() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the service gives no tasks; asking on"
            );
        }
        let pause = self.0.map_or(PAUSE_FIRST, |last| (last * 2).min(PAUSE_MAX));
        self.0 = Some(pause);
        Ok(error.retry_after().map_or(pause, |asked| asked.min(PAUSE_MAX)))
    }

    fn end(&mut self) {
        if self.0.take().is_some() {
            tracing::info!("the service answers again");
        }
    }
}

fn default_worker_id() -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    format!("{}.{}", host.to_string_lossy(), std::process::id())
}
