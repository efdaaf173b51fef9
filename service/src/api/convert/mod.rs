//! Translates between the types of the wire and those of the domain, and checks the values that
//! clients send. Functions named `wire_...` make values of the wire.

mod attempt;
mod event;
mod executor;
mod lease;
mod plugin;
mod queue;
mod reason;
mod stats;
mod task;
mod token;

use nightshift_openapi as wire;
use nightshift_openapi::ErrorCode;

use super::Error;
use crate::domain::{
    Invalid,
    json::JsonText,
    retry::{self, Backoff},
    task::{self as domain_task, Options},
};

#[cfg(fuzzing)]
pub(super) use self::task::content;
pub(super) use self::{
    attempt::{log_lines, outcome, progress, too_large, wire_log_line},
    event::{event_type, wire_event},
    executor::{executor_change, registration, wire_executor},
    lease::{ALL_QUEUES, lease_request, lease_wait, wire_lease},
    plugin::wire_plugin,
    queue::{queue_change, wire_queue},
    reason::wire_reason,
    stats::{wire_pruned, wire_stats},
    task::{
        Said, new_task, shown_to, wire_error, wire_json, wire_progress, wire_status, wire_summary,
        wire_task,
    },
    token::{new_token, wire_audit_entry, wire_token},
};

fn options(
    timeout_seconds: Option<f64>,
    max_attempts: Option<i64>,
    backoff: Option<wire::Backoff>,
) -> Result<Options, Invalid> {
    Ok(Options {
        timeout: timeout_seconds.map(retry::timeout).transpose()?,
        max_attempts: max_attempts.map(domain_task::max_attempts).transpose()?,
        backoff: backoff
            .map(|b| Backoff::new(b.initial_seconds, b.factor, b.max_seconds, b.jitter))
            .transpose()?,
    })
}

fn wire_backoff(backoff: Backoff) -> wire::Backoff {
    wire::Backoff {
        initial_seconds: Some(backoff.initial.as_secs_f64()),
        factor: Some(backoff.factor),
        max_seconds: Some(backoff.max.as_secs_f64()),
        jitter: Some(backoff.jitter),
    }
}

fn json(value: &wire::Json, field: &'static str) -> Result<JsonText, Error> {
    JsonText::from_valid(value.as_str()).map_err(|_too_deep| {
        let detail = format!("{field} is nested more than 128 deep");
        Error::new(ErrorCode::TooDeep, detail).at(format!("/{field}"))
    })
}
