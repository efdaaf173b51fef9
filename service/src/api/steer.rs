//! Cancels, retries and deletes tasks.

use actix_web::{HttpResponse, HttpResponseBuilder, delete, post, web::Path};
use nightshift_openapi as wire;
use nightshift_openapi::ErrorCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Error, Shared, answer, convert,
    extract::Query,
    params::OfTask,
    responses::{HasEnded, HasNotEnded, NoSuchTask, NotRetryable, Problems, Written},
    tasks::{not_found, task_id},
};
use crate::{
    access::Caller,
    domain::task::TaskId,
    memory::Held,
    store::{CancelAnswer, CancelRequest, DeleteAnswer, RetryAnswer},
};

/// How to cancel.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CancelQuery {
    /// End a running attempt at once instead of giving its executor 10 seconds to stop.
    #[serde(default)]
    #[param(example = false)]
    force: bool,
}

/// Cancel a task
///
/// A waiting task is CANCELLED at once (200). The executor of a running one is asked to stop
/// (202); after 10 seconds the task is CANCELLED whatever the executor does. A token without the
/// scope `read` is shown where the task is: `args`, `kwargs`, `progress`, `return_value` and
/// `errors` are empty.
#[utoipa::path(
    tag = "tasks",
    operation_id = "cancel_task",
    security((), ("bearer" = ["enqueue"])),
    params(OfTask, CancelQuery),
    responses(
        (status = 200, description = "The task is cancelled", body = wire::Task,
            example = json!(wire::examples::cancelled_task())),
        (status = 202, description = "Its executor is asked to stop", body = wire::Task,
            example = json!(wire::examples::cancelling_task())),
        Problems<(NoSuchTask, HasEnded, Written)>,
    )
)]
#[post("/tasks/{id}/cancel")]
pub(super) async fn cancel_task(
    state: Shared,
    caller: Caller,
    id: Path<String>,
    query: Query<CancelQuery>,
) -> Result<HttpResponse, Error> {
    let id = caller.task(&state, task_id(&id)?).await?;
    let request = CancelRequest { id, force: query.0.force };
    let answer = match state.store.cancel(request, caller.note("cancel_task", &id)).await? {
        CancelAnswer::Cancelled => HttpResponse::Ok(),
        CancelAnswer::Requested => HttpResponse::Accepted(),
        CancelAnswer::Finished => {
            let detail = "the task ended before it could be cancelled";
            return Err(Error::new(ErrorCode::TaskFinished, detail));
        }
        CancelAnswer::NotFound => return Err(not_found()),
    };
    record(&state, &caller, id, answer).await
}

/// Retry a task
///
/// A FAILED or CANCELLED task becomes READY again under the same id, with all its attempts
/// before it; its errors are kept. A token without the scope `read` is shown where the task is:
/// `args`, `kwargs`, `progress`, `return_value` and `errors` are empty.
#[utoipa::path(
    tag = "tasks",
    operation_id = "retry_task",
    security((), ("bearer" = ["enqueue"])),
    params(OfTask),
    responses(
        (status = 200, description = "The task is READY again", body = wire::Task,
            example = json!(wire::examples::ready_task())),
        Problems<(NoSuchTask, NotRetryable, Written)>,
    )
)]
#[post("/tasks/{id}/retry")]
pub(super) async fn retry_task(
    state: Shared,
    caller: Caller,
    id: Path<String>,
) -> Result<HttpResponse, Error> {
    let id = caller.task(&state, task_id(&id)?).await?;
    match state.store.retry(id, caller.note("retry_task", &id)).await? {
        RetryAnswer::Retried => record(&state, &caller, id, HttpResponse::Ok()).await,
        RetryAnswer::NotRetryable => {
            let detail = "only a FAILED or CANCELLED task can be retried";
            Err(Error::new(ErrorCode::TaskNotRetryable, detail))
        }
        RetryAnswer::UniqueKeyTaken => {
            let detail = "a waiting or running task has its unique_key";
            Err(Error::new(ErrorCode::UniqueKeyTaken, detail))
        }
        RetryAnswer::NotFound => Err(not_found()),
    }
}

/// Delete a finished task
///
/// With its result, errors and log. One that waits or runs is to be cancelled first.
#[utoipa::path(
    tag = "tasks",
    operation_id = "delete_task",
    security((), ("bearer" = ["enqueue"])),
    params(OfTask),
    responses(
        (status = 204, description = "The task is gone"),
        Problems<(NoSuchTask, HasNotEnded, Written)>,
    )
)]
#[delete("/tasks/{id}")]
pub(super) async fn delete_task(
    state: Shared,
    caller: Caller,
    id: Path<String>,
) -> Result<HttpResponse, Error> {
    let id = caller.task(&state, task_id(&id)?).await?;
    match state.store.delete(id, caller.note("delete_task", &id)).await? {
        DeleteAnswer::Deleted => Ok(HttpResponse::NoContent().finish()),
        DeleteAnswer::NotFinished => {
            Err(Error::new(ErrorCode::TaskNotFinished, "the task waits or runs"))
        }
        DeleteAnswer::NotFound => Err(not_found()),
    }
}

/// Answers with the task's record, as far as the caller may see it.
async fn record(
    state: &Shared,
    caller: &Caller,
    id: TaskId,
    answer: HttpResponseBuilder,
) -> Result<HttpResponse, Error> {
    let task = state.store.task_written(id).await?.ok_or_else(not_found)?;
    let Held { value: task, share } = task;
    let task = convert::shown_to(caller, task);
    answer::json(state, answer, Some(share), move || convert::wire_task(task)).await
}
