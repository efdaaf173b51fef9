//! `POST /tasks/batch`: enqueues many tasks, all of them or none.

use actix_web::{
    HttpRequest, HttpResponse, post,
    web::{Bytes, Payload},
};
use nightshift_openapi as wire;
use nightshift_openapi::ErrorCode;

use super::{
    Error, Shared,
    convert::{self, Said},
    extract::{self, Lot},
    headers,
    params::Traced,
    responses::{Headed, ManyTasks, NewTasks, Problems, Sent, Written},
    tasks,
};
use crate::{
    access::Caller,
    domain::{limits::BATCH_TASKS_MAX, task::NewTask},
    store::Enqueued,
    traces::SpanKind,
};

/// Enqueue many tasks
///
/// All are stored or none; a task that cannot be accepted is named by its index in `pointer`. Those
/// that were said before are not stored again; `existing` has their indexes.
/// As `application/x-ndjson`, each line is one task. To make the request safe to repeat, give
/// each task its own `id`.
#[utoipa::path(
    tag = "tasks",
    operation_id = "create_tasks",
    security((), ("bearer" = ["enqueue"])),
    params(Traced),
    request_body(content(
        (wire::TaskBatch = "application/json", example = json!(wire::examples::task_batch())),
        (String = "application/x-ndjson", example = json!(wire::examples::task_lines())),
    )),
    responses(
        (status = 201, description = "All tasks are stored", body = wire::TaskIds,
            example = json!(wire::examples::task_ids())),
        Problems<(Sent, Headed, NewTasks, ManyTasks, Written)>,
    )
)]
#[post("/tasks/batch")]
pub(super) async fn create_tasks(
    state: Shared,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Error> {
    if headers::idempotency_key(&request)?.is_some() {
        let detail = "a batch takes no Idempotency-Key: give each task its own id";
        return Err(Error::new(ErrorCode::InvalidHeader, detail));
    }
    let parse = if extract::has_type(&request, "application/json") {
        array
    } else if extract::has_type(&request, "application/x-ndjson") {
        lines
    } else {
        let wanted = "application/json or application/x-ndjson";
        return Err(extract::unsupported(&request, wanted));
    };
    let lot = Lot::Open(state.limits.batch_bytes_max);
    let bytes = extract::read(&request, payload.into_inner(), lot).await?;
    let parent = headers::traceparent(&request);
    let now = state.clock.now();
    let mut span =
        state.traces.begin("POST /tasks/batch", SpanKind::Server, parent.as_deref(), now);
    let traceparent = span.traceparent().or(parent);
    let shared = state.clone();
    let read =
        move |bytes: &Bytes| new_tasks(&shared, &caller, traceparent.as_deref(), parse(bytes)?);
    let tasks = extract::aside(&state, bytes, read).await?;
    let enqueued = state.store.enqueue(tasks).await.inspect_err(|_away| span.fail())?;
    let enqueued = enqueued.map_err(|refused| {
        let (index, error) = tasks::conflict(refused);
        error.below(&at(index))
    })?;
    span.set("batch.tasks", i64::try_from(enqueued.len()).unwrap_or(i64::MAX));
    span.end(state.clock.now());
    Ok(HttpResponse::Created().json(wire::TaskIds {
        ids: enqueued.iter().map(|enqueued| enqueued.id().0).collect(),
        existing: (0..)
            .zip(&enqueued)
            .filter(|(_, enqueued)| matches!(enqueued, Enqueued::Existing { .. }))
            .map(|(index, _)| index)
            .collect(),
    }))
}

fn new_tasks(
    state: &Shared,
    caller: &Caller,
    traceparent: Option<&str>,
    tasks: Vec<wire::TaskRequest>,
) -> Result<Vec<NewTask>, Error> {
    let new = |(index, task)| {
        let said = Said {
            idempotency_key: None,
            traceparent: traceparent.map(str::to_owned),
            visible: caller.queue_names.clone(),
        };
        let new: Result<NewTask, Error> = convert::new_task(state, task, said);
        new.and_then(|new| {
            caller.check_queue(new.content.queue_name.as_str())?;
            Ok(new)
        })
        .map_err(|error| error.below(&at(index)))
    };
    tasks.into_iter().enumerate().map(new).collect()
}

pub(super) fn at(index: usize) -> String {
    format!("/tasks/{index}")
}

pub(super) fn array(bytes: &Bytes) -> Result<Vec<wire::TaskRequest>, Error> {
    let batch: wire::TaskBatch = extract::parse(bytes).map_err(|error| {
        if error.is_at("/tasks", wire::TOO_MANY) { wrong_size() } else { error }
    })?;
    check_size(batch.tasks.len())?;
    Ok(batch.tasks)
}

/// Reads one task from each line. Empty lines are skipped.
pub(super) fn lines(bytes: &Bytes) -> Result<Vec<wire::TaskRequest>, Error> {
    let mut tasks = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        check_size(tasks.len() + 1)?;
        tasks.push(extract::parse(line).map_err(|error| error.below(&at(tasks.len())))?);
    }
    check_size(tasks.len())?;
    Ok(tasks)
}

fn check_size(tasks: usize) -> Result<(), Error> {
    if (1..=BATCH_TASKS_MAX).contains(&tasks) { Ok(()) } else { Err(wrong_size()) }
}

fn wrong_size() -> Error {
    let detail = format!("a batch has 1 to {BATCH_TASKS_MAX} tasks");
    Error::new(ErrorCode::BatchSize, detail).at("/tasks")
}
