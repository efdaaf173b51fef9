//! What a command is for its task: the function that is run.

use std::{os::unix::process::ExitStatusExt, sync::Arc, time::Duration};

use nightshift_client::{
    types::{Json, Lease},
    worker::{Context, Failure},
};

use super::{
    family::Family,
    process::{Ended, Process},
};

/// `EX_DATAERR` of sysexits.h: the input cannot be worked on, now or ever.
const EXIT_DATA_ERROR: i32 = 65;

/// A program and its arguments, which are run for each task.
pub(super) struct Command {
    pub(super) words: Vec<String>,
    pub(super) server: String,
    pub(super) family: Arc<Family>,
    /// How long it may take to stop when it is asked to.
    pub(super) kill_after: Duration,
}

impl Command {
    /// Runs it for one attempt. Dropped, it and what it has started are killed.
    pub(super) async fn run(&self, context: Context) -> Result<Json, Failure> {
        let task = context.task();
        let input = format!(r#"{{"args": {}, "kwargs": {}}}"#, task.args, task.kwargs);
        let environment = self.environment(context.lease());
        let mut process =
            Process::start(&self.family, &self.words, environment, input.into_bytes()).map_err(
                |error| {
                    let name = self.words.first().map(String::as_str).unwrap_or_default();
                    Failure::new("nightshift.CommandNotStarted", format!("{name}: {error}"))
                },
            )?;
        let stop = process.stop(self.kill_after);
        let mut ended = std::pin::pin!(process.ended(&context));
        let ended = tokio::select! {
            ended = &mut ended => ended,
            () = context.cancelled() => {
                tokio::select! {
                    _ = ended => {}
                    never = stop.gently() => match never {},
                }
                return Err(Failure::new("nightshift.CommandStopped", "the command was stopped"));
            }
        };
        match ended {
            Ok(ended) => value_of(&ended),
            Err(error) => Err(Failure::new("nightshift.CommandLost", error)),
        }
    }

    fn environment(&self, lease: &Lease) -> Vec<(&'static str, String)> {
        let Lease { token, task, attempt, max_attempts, deadline, traceparent, .. } = lease;
        let server = self.server.trim_end_matches('/');
        let mut environment = vec![
            ("NIGHTSHIFT_TASK_ID", task.id.to_string()),
            ("NIGHTSHIFT_TASK_PATH", task.task_path.clone()),
            ("NIGHTSHIFT_ATTEMPT", attempt.to_string()),
            ("NIGHTSHIFT_MAX_ATTEMPTS", max_attempts.to_string()),
            ("NIGHTSHIFT_QUEUE_NAME", task.queue_name.clone()),
            ("NIGHTSHIFT_DEADLINE", deadline.to_string()),
        ];
        // Below a Unix socket there are no addresses.
        if !server.starts_with("unix:") {
            environment.push(("NIGHTSHIFT_LEASE_URL", format!("{server}/leases/{token}")));
        }
        environment.extend(traceparent.clone().map(|value| ("TRACEPARENT", value)));
        environment
    }
}

/// What the end of a command means for its task.
fn value_of(ended: &Ended) -> Result<Json, Failure> {
    if let Some(signal) = ended.status.signal() {
        return Err(failure(
            "nightshift.CommandKilled",
            format!("killed by signal {signal}"),
            ended,
        ));
    }
    match ended.status.code() {
        Some(0) => returned(ended),
        code => {
            let code = code.unwrap_or(-1);
            let failure = failure("nightshift.CommandFailed", format!("exit status {code}"), ended);
            Err(if code == EXIT_DATA_ERROR { failure.retryable(false) } else { failure })
        }
    }
}

/// How it ended, with its last words: most programs say on standard error why they fail, and some on
/// standard output.
fn failure(class_path: &str, end: String, ended: &Ended) -> Failure {
    let message = match ended.last_errors.last().or(ended.last_line.as_deref()) {
        Some(line) => format!("{end}: {line}"),
        None => end,
    };
    let failure = Failure::new(class_path, message);
    match ended.last_errors.lines() {
        Some(lines) => failure.traceback(lines),
        None => failure,
    }
}

fn returned(ended: &Ended) -> Result<Json, Failure> {
    if !ended.result.is_empty() {
        let value = std::str::from_utf8(&ended.result).ok().and_then(|text| text.parse().ok());
        return value.ok_or_else(|| {
            let message = "what was written to file descriptor 3 is not JSON";
            Failure::new("nightshift.ResultNotJson", message).retryable(false)
        });
    }
    let Some(line) = &ended.last_line else {
        return Ok(Json::null());
    };
    // Most scripts print for people.
    Ok(line.parse().or_else(|_not_json| Json::from_value(line))?)
}
