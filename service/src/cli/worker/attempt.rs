//! One attempt at a task: runs the command, and reports how it ended.

use std::{os::unix::process::ExitStatusExt, sync::Arc, time::Duration};

use nightshift_client::types::{ErrorReport, FinishRequest, Json, Lease};
use tokio::time::{Instant, sleep};

use super::{
    PAUSE_FIRST, PAUSE_MAX, Work,
    heart::{Heart, Stopped},
    logs::Logs,
    process::{Ended, Process},
};

/// How long the end of an attempt is reported again after its lease has run out by our clock:
/// the service may have been away, and have given its leases more time.
const REPORT_LONGER: Duration = Duration::from_secs(30);
/// `EX_DATAERR` of sysexits.h: the input cannot be worked on, now or ever.
const EXIT_DATA_ERROR: i32 = 65;

pub(super) struct Attempt {
    work: Arc<Work>,
    lease: Lease,
    heart: Heart,
    logs: Arc<Logs>,
}

impl Attempt {
    pub(super) fn new(work: Arc<Work>, lease: Lease) -> Self {
        let logs = Arc::new(Logs::default());
        let heart = Heart::new(work.client.clone(), &lease, Arc::clone(&logs));
        Self { work, lease, heart, logs }
    }

    pub(super) async fn run(mut self) {
        let (id, path) = (self.lease.task.id, self.lease.task.task_path.clone());
        tracing::info!(task.id = %id, task.path = path, attempt = self.lease.attempt, "started");
        let started = Instant::now();
        let end = self.execute().await;
        let told = match &end {
            End::Finish(FinishRequest { error: Some(error), .. }) => {
                format!("failed: {}", error.message.as_deref().unwrap_or_default())
            }
            End::Finish(FinishRequest { cancelled: true, .. }) => "cancelled".to_owned(),
            End::Finish(_) => "succeeded".to_owned(),
            End::Release => "handed back".to_owned(),
            End::Nothing => "stopped, since its lease is gone".to_owned(),
        };
        let seconds = started.elapsed().as_secs_f64();
        tracing::info!(task.id = %id, task.path = path, seconds, "{told}");
        self.heart.send_logs().await;
        self.report(end).await;
    }

    async fn execute(&mut self) -> End {
        let task = &self.lease.task;
        let input = format!(r#"{{"args": {}, "kwargs": {}}}"#, task.args, task.kwargs);
        let command = &self.work.command;
        let mut process = match Process::start(command, self.environment(), input.into_bytes()) {
            Ok(process) => process,
            Err(error) => {
                let name = command.first().map(String::as_str).unwrap_or_default();
                return failed("nightshift.CommandNotStarted", format!("{name}: {error}"), None);
            }
        };
        let stop = process.stop(self.work.kill_after);
        let mut ended = std::pin::pin!(process.ended(&self.logs));
        let stopped = tokio::select! {
            ended = &mut ended => return match ended {
                Ok(ended) => end_of(&ended),
                Err(error) => failed("nightshift.CommandLost", error.to_string(), None),
            },
            stopped = self.heart.beat() => stopped,
            () = self.work.hurry.cancelled() => Stopped::Hurry,
        };
        match stopped {
            // Somebody else may have begun already.
            Stopped::Lost => {
                stop.at_once();
                ended.await.ok();
                End::Nothing
            }
            // The lease is kept while it stops, so that nobody else begins before it has ended.
            Stopped::Cancelled | Stopped::Hurry => {
                tokio::select! {
                    _ = &mut ended => {}
                    never = stop.gently() => match never {},
                    never = self.heart.beat_on() => match never {},
                }
                self.end_of_stopped(stopped)
            }
        }
    }

    fn end_of_stopped(&self, stopped: Stopped) -> End {
        match stopped {
            Stopped::Cancelled => {
                End::Finish(FinishRequest { cancelled: true, ..FinishRequest::default() })
            }
            Stopped::Hurry if self.lease.max_attempts > 1 => End::Release,
            // Nobody knows how far it came, so what may be tried only once is not tried again.
            Stopped::Hurry => {
                failed("nightshift.WorkerStopped", "the worker was stopped".to_owned(), None)
            }
            Stopped::Lost => End::Nothing,
        }
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let Lease { token, task, attempt, max_attempts, deadline, traceparent, .. } = &self.lease;
        let server = self.work.server.trim_end_matches('/');
        let mut environment = vec![
            ("NIGHTSHIFT_TASK_ID", task.id.to_string()),
            ("NIGHTSHIFT_TASK_PATH", task.task_path.clone()),
            ("NIGHTSHIFT_ATTEMPT", attempt.to_string()),
            ("NIGHTSHIFT_MAX_ATTEMPTS", max_attempts.to_string()),
            ("NIGHTSHIFT_QUEUE_NAME", task.queue_name.clone()),
            ("NIGHTSHIFT_DEADLINE", deadline.to_string()),
            ("NIGHTSHIFT_LEASE_URL", format!("{server}/leases/{token}")),
        ];
        environment.extend(traceparent.clone().map(|value| ("TRACEPARENT", value)));
        environment
    }

    /// Says how it ended until the service has heard it, or nobody wants to know any more.
    async fn report(&self, end: End) {
        let (client, token) = (&self.work.client, &self.lease.token);
        let mut pause = PAUSE_FIRST;
        loop {
            let reported = match &end {
                End::Finish(request) => client.finish_lease(token, request).await.map(drop),
                End::Release => client.release_lease(token).await,
                End::Nothing => return,
            };
            let Err(error) = reported else { return };
            let given_up = Instant::now() > self.heart.expires() + REPORT_LONGER;
            if given_up || !error.is_transient() {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    task.id = %self.lease.task.id,
                    "the end of an attempt could not be reported"
                );
                return;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// What is to be told to the service.
enum End {
    Finish(FinishRequest),
    Release,
    Nothing,
}

/// What the end of a command means for its task.
fn end_of(ended: &Ended) -> End {
    if let Some(signal) = ended.status.signal() {
        return failed("nightshift.CommandKilled", format!("killed by signal {signal}"), None);
    }
    match ended.status.code() {
        Some(0) => value_of(ended),
        code => {
            let code = code.unwrap_or(-1);
            let message = match &ended.last_line {
                Some(line) => format!("exit status {code}: {line}"),
                None => format!("exit status {code}"),
            };
            let retryable = (code == EXIT_DATA_ERROR).then_some(false);
            failed("nightshift.CommandFailed", message, retryable)
        }
    }
}

fn value_of(ended: &Ended) -> End {
    if !ended.result.is_empty() {
        let value = std::str::from_utf8(&ended.result).ok().and_then(|text| text.parse().ok());
        return match value {
            Some(value) => succeeded(value),
            None => failed(
                "nightshift.ResultNotJson",
                "what was written to file descriptor 3 is not JSON".to_owned(),
                Some(false),
            ),
        };
    }
    let Some(line) = &ended.last_line else {
        return succeeded(Json::null());
    };
    // Most scripts print for people.
    let value = line.parse().or_else(|_not_json| Json::from_value(line));
    succeeded(value.unwrap_or_else(|_impossible| Json::null()))
}

fn succeeded(value: Json) -> End {
    End::Finish(FinishRequest { return_value: Some(value), ..FinishRequest::default() })
}

fn failed(class: &str, message: String, retryable: Option<bool>) -> End {
    let error = ErrorReport {
        exception_class_path: Some(class.to_owned()),
        message: Some(message),
        traceback: None,
        retryable,
    };
    End::Finish(FinishRequest { error: Some(error), ..FinishRequest::default() })
}
