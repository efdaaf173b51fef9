//! Events of tasks.

use nightshift_openapi as wire;

use super::{wire_error, wire_log_line, wire_progress, wire_status};
use crate::domain::{
    attempt::{Failure, RecordedFailure},
    event::{Change, TaskEvent},
};

pub(in crate::api) fn wire_event(event: &TaskEvent) -> wire::TaskEvent {
    let mut wire = wire::TaskEvent {
        event_type: event_type(event),
        task_id: event.task_id.0,
        task_path: event.task_path.clone(),
        queue_name: event.queue_name.clone(),
        status: wire_status(event.stage),
        attempt: event.attempt,
        at: event.at.into(),
        run_after: None,
        worker_id: None,
        progress: None,
        logs: Vec::new(),
        error: None,
    };
    let error = |failure: &Option<Failure>| {
        let recorded = |failure: &Failure| RecordedFailure {
            attempt: event.attempt,
            failure: failure.clone(),
            at: event.at,
        };
        failure.as_ref().map(recorded).map(wire_error)
    };
    match &event.change {
        Change::Enqueued { run_after } | Change::Released { run_after } => {
            wire.run_after = run_after.map(Into::into);
        }
        Change::Started { worker_id } => wire.worker_id.clone_from(worker_id),
        Change::Progress(progress) => wire.progress = Some(wire_progress(progress.clone())),
        Change::Log(lines) => wire.logs = lines.iter().cloned().map(wire_log_line).collect(),
        Change::AttemptFailed { failure, run_after } => {
            wire.error = error(failure);
            wire.run_after = run_after.map(Into::into);
        }
        Change::Ended { failure } => wire.error = error(failure),
        Change::CancelRequested | Change::Retried | Change::Deleted => {}
    }
    wire
}

pub(in crate::api) fn event_type(event: &TaskEvent) -> wire::TaskEventType {
    match &event.change {
        Change::Enqueued { .. } => wire::TaskEventType::Enqueued,
        Change::Started { .. } => wire::TaskEventType::Started,
        Change::Progress(_) => wire::TaskEventType::Progress,
        Change::Log(_) => wire::TaskEventType::Log,
        Change::AttemptFailed { .. } => wire::TaskEventType::AttemptFailed,
        Change::Released { .. } => wire::TaskEventType::Released,
        Change::CancelRequested => wire::TaskEventType::CancelRequested,
        Change::Ended { .. } => wire::TaskEventType::Finished,
        Change::Retried => wire::TaskEventType::Retried,
        Change::Deleted => wire::TaskEventType::Deleted,
    }
}
