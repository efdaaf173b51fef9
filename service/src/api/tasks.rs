//! `POST /tasks`, and the operations that read one task.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, get, post, web::Path};
use nightshift_openapi as wire;
use nightshift_openapi::ErrorCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Error, Shared, answer, convert,
    convert::Said,
    extract::{self, Body, Query},
    headers,
    params::{Enqueueing, OfTask, Traced},
    responses::{Headed, NewTasks, NoSuchTask, OneTask, Problems, Sent, Stored, Written},
};
use crate::{
    access::Caller,
    domain::{
        executor::Executor,
        limits::WAIT_MAX,
        task::{Task, TaskId},
    },
    memory::{Held, Share},
    store::{EnqueueConflict, Enqueued},
    traces::SpanKind,
};

/// How long to wait for the task to end.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wait {
    /// Answer when the task has ended, or after so many seconds; more than 50 count as 50.
    #[param(value_type = Option<i64>, minimum = 0, maximum = 4_294_967_295_i64, example = 10)]
    wait: Option<u32>,
}

impl Wait {
    fn limit(&self) -> Option<Duration> {
        self.wait.map(|seconds| Duration::from_secs(seconds.into()).min(WAIT_MAX))
    }
}

/// Parses a task's id. No task has a malformed id, so it is answered like an unknown one.
pub(super) fn task_id(text: &str) -> Result<TaskId, Error> {
    text.parse().map(TaskId).map_err(|_malformed| not_found())
}

pub(super) fn not_found() -> Error {
    Error::new(ErrorCode::TaskNotFound, "no task has this id")
}

/// The problem for a refused task, and the task's index in the request.
pub(super) fn conflict(conflict: EnqueueConflict) -> (usize, Error) {
    match conflict {
        EnqueueConflict::Id { index } => (
            index,
            Error::new(ErrorCode::IdConflict, "a task with other content has this id").at("/id"),
        ),
        EnqueueConflict::IdempotencyKey { index } => {
            let detail = "a request with other content had this Idempotency-Key";
            (index, Error::new(ErrorCode::IdempotencyMismatch, detail))
        }
        EnqueueConflict::UniqueKey { index } => {
            let detail = "a live task of a queue that the token is not for has this unique key";
            (index, Error::new(ErrorCode::UniqueKeyTaken, detail).at("/unique_key"))
        }
    }
}

/// Enqueue a task
///
/// The answer comes after the task is stored. With `Prefer: wait=S` it comes when the task has
/// ended, or after S seconds (at most 50, which
/// `Preference-Applied` says), and holds the record as it is then. A token without the
/// scope `read` is shown what it has said itself, and the task's status: otherwise `args` and
/// `kwargs` are empty, and so are `progress`, `return_value` and `errors`.
#[utoipa::path(
    tag = "tasks",
    operation_id = "create_task",
    security((), ("bearer" = ["enqueue"])),
    params(Enqueueing, Traced),
    request_body(content = wire::TaskRequest, example = json!(wire::examples::task_request())),
    responses(
        (status = 201, description = "The task is stored", body = wire::Task,
            headers(
                ("Location" = String, description = "The task's address: its path on this host"),
                ("Preference-Applied" = String, description = "`wait=S`, where it was asked for"),
            ),
            example = json!(wire::examples::ready_task())),
        (status = 200, description = "The task was stored before", body = wire::Task,
            headers(
                ("Location" = String, description = "The task's address: its path on this host"),
                ("Preference-Applied" = String, description = "`wait=S`, where it was asked for"),
            ),
            example = json!(wire::examples::ready_task())),
        Problems<(Sent, Headed, NewTasks, OneTask, Written)>,
    )
)]
#[post("/tasks")]
pub(super) async fn create_task(
    state: Shared,
    caller: Caller,
    request: HttpRequest,
    body: Body<wire::TaskRequest>,
) -> Result<HttpResponse, Error> {
    let idempotency_key = headers::idempotency_key(&request)?;
    let parent = headers::traceparent(&request);
    let now = state.clock.now();
    let mut span = state.traces.begin("POST /tasks", SpanKind::Server, parent.as_deref(), now);
    let traceparent = span.traceparent().or(parent);
    let said = Said { idempotency_key, traceparent, visible: caller.queue_names.clone() };
    let new = convert::new_task(&state, body.0, said)?;
    caller.check_queue(new.content.queue_name.as_str())?;
    // The caller may see what it has sent itself, even if its token does not allow reading.
    let said = (new.content.args.clone(), new.content.kwargs.clone());
    let enqueued = state
        .store
        .enqueue(vec![new])
        .await
        .inspect_err(|_away| span.fail())?
        .map_err(|refused| conflict(refused).1)?
        .pop()
        .ok_or_else(|| Error::new(ErrorCode::Internal, "the store lost count"))?;
    let (id, is_said) = match &enqueued {
        Enqueued::Created(task) => (task.id, true),
        Enqueued::Existing { id, same } => (*id, *same),
    };
    let (mut answer, mut task) = match enqueued {
        Enqueued::Created(task) => (HttpResponse::Created(), Some((*task, None))),
        Enqueued::Existing { .. } => (HttpResponse::Ok(), written(&state, id).await?),
    };
    if let Some((task, _)) = &task {
        span.describe(task);
    }
    span.end(state.clock.now());
    if let Some(limit) = headers::prefer_wait(&request) {
        extract::make_room(&request);
        // The record may be large, and is read again after the wait, so do not keep the memory for
        // it meanwhile.
        state.wait_for_end(&caller, id, limit).await?;
        // If the task was deleted during the wait, the answer shows it as it was before.
        task = written(&state, id).await?.or(task);
        answer.insert_header(("Preference-Applied", format!("wait={}", limit.as_secs())));
    }
    let (task, share) = task.ok_or_else(gone)?;
    // A task that was just created takes over the memory of the request's body.
    let share = share.or_else(|| extract::take_room(&request));
    answer.insert_header(("Location", state.home.path(&format!("/tasks/{id}"))));
    let task = convert::shown_to(&caller, task);
    answer::json(&state, answer, share, move || {
        let mut task = convert::wire_task(task)?;
        if is_said {
            task.args = convert::wire_json(&said.0)?;
            task.kwargs = convert::wire_json(&said.1)?;
        }
        Ok(task)
    })
    .await
}

/// Reads the record of an enqueued task, with the memory for it.
async fn written(state: &Shared, id: TaskId) -> Result<Option<(Task, Option<Share>)>, Error> {
    let task = state.store.task_written(id).await?;
    Ok(task.map(|Held { value, share }| (value, Some(share))))
}

/// The problem if the existing task was deleted before it could be read.
fn gone() -> Error {
    Error::new(ErrorCode::Overloaded, "the task that was there before has just been deleted")
}

/// Read a task's whole record
///
/// With what it was given and what it returned. With `wait`, the answer comes when it has ended.
#[utoipa::path(
    tag = "tasks",
    operation_id = "get_task",
    security((), ("bearer" = ["read"])),
    params(OfTask, Wait),
    responses(
        (status = 200, description = "The record", body = wire::Task,
            example = json!(wire::examples::successful_task())),
        Problems<(NoSuchTask, Stored)>,
    )
)]
#[get("/tasks/{id}")]
pub(super) async fn get_task(
    state: Shared,
    caller: Caller,
    id: Path<String>,
    query: Query<Wait>,
) -> Result<HttpResponse, Error> {
    let id = caller.task(&state, task_id(&id)?).await?;
    if let Some(limit) = query.0.limit() {
        state.wait_for_end(&caller, id, limit).await?;
    }
    let Held { value: task, share } = state.store.task(id).await?.ok_or_else(not_found)?;
    let record = move || convert::wire_task(task);
    answer::json(&state, HttpResponse::Ok(), Some(share), record).await
}

/// Read where a task is
///
/// Only what changes while it runs: a small answer, for asking often.
#[utoipa::path(
    tag = "tasks",
    operation_id = "get_task_status",
    security((), ("bearer" = ["read"])),
    params(OfTask),
    responses(
        (status = 200, description = "What changes while the task runs", body = wire::TaskState,
            example = json!(wire::examples::task_state())),
        Problems<(NoSuchTask, Stored)>,
    )
)]
#[get("/tasks/{id}/status")]
pub(super) async fn get_task_status(
    state: Shared,
    caller: Caller,
    id: Path<String>,
) -> Result<HttpResponse, Error> {
    let id = caller.task(&state, task_id(&id)?).await?;
    let now = state.store.task_state(id).await?.ok_or_else(not_found)?;
    Ok(HttpResponse::Ok().json(wire::TaskState {
        id: now.id.0,
        status: convert::wire_status(now.stage),
        attempts: now.attempts,
        progress: now.progress.map(convert::wire_progress),
        enqueued_at: now.times.enqueued_at.into(),
        run_after: now.run_after.map(Into::into),
        started_at: now.times.started_at.map(Into::into),
        last_attempted_at: now.times.last_attempted_at.map(Into::into),
        last_renewed_at: now.lease.map(|lease| lease.renewed_at.into()),
        lease_expires_at: now.lease.map(|lease| lease.expires_at.into()),
        cancel_requested_at: now.times.cancel_requested_at.map(Into::into),
        finished_at: now.times.finished_at.map(Into::into),
    }))
}

/// Read how a task ended
///
/// 200 once it has ended, 202 before.
#[utoipa::path(
    tag = "tasks",
    operation_id = "get_task_result",
    security((), ("bearer" = ["read"])),
    params(OfTask, Wait),
    responses(
        (status = 200, description = "The task has ended", body = wire::TaskResult,
            example = json!(wire::examples::task_result(wire::examples::successful_task()))),
        (status = 202, description = "The task has not ended", body = wire::TaskResult,
            headers(("Retry-After" = u32, description = "Seconds to wait")),
            example = json!(wire::examples::task_result(wire::examples::running_task()))),
        Problems<(NoSuchTask, Stored)>,
    )
)]
#[get("/tasks/{id}/result")]
pub(super) async fn get_task_result(
    state: Shared,
    caller: Caller,
    id: Path<String>,
    query: Query<Wait>,
) -> Result<HttpResponse, Error> {
    let id = caller.task(&state, task_id(&id)?).await?;
    if let Some(limit) = query.0.limit() {
        state.wait_for_end(&caller, id, limit).await?;
    }
    let Held { value: end, share } = state.store.task_end(id).await?.ok_or_else(not_found)?;
    let answer = if end.stage.is_finished() {
        HttpResponse::Ok()
    } else {
        let mut accepted = HttpResponse::Accepted();
        accepted.insert_header(("Retry-After", 1));
        accepted
    };
    answer::json(&state, answer, Some(share), move || {
        Ok(wire::TaskResult {
            id: end.id.0,
            status: convert::wire_status(end.stage),
            return_value: end.return_value.as_ref().map(convert::wire_json).transpose()?,
            errors: end.errors.into_iter().map(convert::wire_error).collect(),
            errors_dropped: end.errors_dropped,
            finished_at: end.finished_at.map(Into::into),
        })
    })
    .await
}

/// Say why a task is where it is
///
/// Why it does not run yet, who runs it, or how it ended.
#[utoipa::path(
    tag = "tasks",
    operation_id = "explain_task",
    security((), ("bearer" = ["read"])),
    params(OfTask),
    responses(
        (status = 200, description = "The reasons, the most important first", body = wire::Explanation,
            example = json!(wire::examples::explanation())),
        Problems<(NoSuchTask, Stored)>,
    )
)]
#[get("/tasks/{id}/explain")]
pub(super) async fn explain_task(
    state: Shared,
    caller: Caller,
    id: Path<String>,
) -> Result<HttpResponse, Error> {
    let id = caller.task(&state, task_id(&id)?).await?;
    let capacity = state.capacity.clone();
    let lack = move |executor: &Executor, bytes| capacity.lack(executor, bytes);
    let (at, reasons) = state.store.explain(id, lack).await?.ok_or_else(not_found)?;
    Ok(HttpResponse::Ok().json(wire::Explanation {
        id: id.0,
        status: convert::wire_status(at),
        reasons: reasons.into_iter().map(convert::wire_reason).collect(),
    }))
}
