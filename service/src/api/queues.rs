//! `/queues`: lists, reads, pauses and limits queues.

use actix_web::{HttpResponse, get, patch, web::Path};
use nightshift_openapi as wire;
use nightshift_openapi::ErrorCode;

use super::{
    Error, Shared, convert,
    cursor::ByName,
    extract::{Body, Query},
    params::OfQueue,
    responses::{Counted, NoSuchQueue, Paged, Problems, Sent, Stored, Written},
};
use crate::{
    access::Caller,
    domain::{limits::QUEUES_SET_MAX, names::QueueName},
    store::TooManyQueues,
};

fn not_found() -> Error {
    Error::new(ErrorCode::QueueNotFound, "no queue can have this name")
}

/// List queues, by name
///
/// All that hold tasks which have not ended, or have settings.
#[utoipa::path(
    tag = "queues",
    operation_id = "list_queues",
    security((), ("bearer" = ["read"])),
    params(ByName),
    responses(
        (status = 200, description = "One page", body = wire::QueueList,
            example = json!(wire::examples::queue_list())),
        Problems<(Paged, Stored)>,
    )
)]
#[get("/queues")]
pub(super) async fn list_queues(
    state: Shared,
    caller: Caller,
    query: Query<ByName>,
) -> Result<HttpResponse, Error> {
    let mut queues = state.store.queues().await?;
    queues.retain(|queue| caller.may_use(&queue.name));
    let (page, next_cursor) = query.0.page(queues, |queue| &queue.name)?;
    let now = state.clock.now();
    let items = page.into_iter().map(|queue| convert::wire_queue(queue, now)).collect();
    Ok(HttpResponse::Ok().json(wire::QueueList { items, next_cursor }))
}

/// Read a queue
///
/// A queue needs not be made: any name that a task may give is one, if need be an empty one.
#[utoipa::path(
    tag = "queues",
    operation_id = "get_queue",
    security((), ("bearer" = ["read"])),
    params(OfQueue),
    responses(
        (status = 200, description = "What lies in it, and its settings", body = wire::Queue,
            example = json!(wire::examples::queue())),
        Problems<(NoSuchQueue, Stored)>,
    )
)]
#[get("/queues/{name}")]
pub(super) async fn get_queue(
    state: Shared,
    caller: Caller,
    name: Path<String>,
) -> Result<HttpResponse, Error> {
    let name: QueueName = name.parse().map_err(|_malformed| not_found())?;
    caller.check_queue(name.as_str())?;
    answer(&state, name).await
}

/// Pause, resume or limit a queue
///
/// A member that is left out stays as it is. Tasks that run go on.
#[utoipa::path(
    tag = "queues",
    operation_id = "update_queue",
    params(OfQueue),
    request_body(content = wire::QueueChange, example = json!(wire::examples::queue_change())),
    responses(
        (status = 200, description = "The queue as it is now", body = wire::Queue,
            example = json!(wire::examples::queue())),
        Problems<(Sent, NoSuchQueue, Counted, Written)>,
    )
)]
#[patch("/queues/{name}")]
pub(super) async fn update_queue(
    state: Shared,
    caller: Caller,
    name: Path<String>,
    body: Body<wire::QueueChange>,
) -> Result<HttpResponse, Error> {
    let name: QueueName = name.parse().map_err(|_malformed| not_found())?;
    let change = convert::queue_change(name.clone(), &body.0)?;
    let set = state.store.set_queue(change, caller.note("update_queue", &name)).await?;
    set.map_err(|TooManyQueues| {
        let detail = format!("{QUEUES_SET_MAX} queues are paused or limited, and no more may be");
        Error::new(ErrorCode::LimitReached, detail)
    })?;
    answer(&state, name).await
}

async fn answer(state: &Shared, name: QueueName) -> Result<HttpResponse, Error> {
    let queue = state.store.queue(name).await?.ok_or_else(not_found)?;
    Ok(HttpResponse::Ok().json(convert::wire_queue(queue, state.clock.now())))
}
