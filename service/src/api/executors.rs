use actix_web::{HttpResponse, delete, get, put, web::Path};
use nightshift_openapi as wire;
use nightshift_openapi::ErrorCode;

use super::{
    Error, Shared, convert,
    cursor::ByName,
    extract::{Body, Query},
    responses::{BadQuery, NoSuchExecutor, Refused},
};
use crate::{
    domain::{executor::Executor, names::ExecutorName},
    store::NoSuchPlugin,
};

fn not_found() -> Error {
    Error::new(ErrorCode::ExecutorNotFound, "no executor has this name")
}

/// List executors, by name
#[utoipa::path(
    tag = "executors",
    operation_id = "list_executors",
    params(ByName),
    responses(
        (status = 200, description = "One page", body = wire::ExecutorList),
        BadQuery,
    )
)]
#[get("/executors")]
pub(super) async fn list_executors(
    state: Shared,
    query: Query<ByName>,
) -> Result<HttpResponse, Error> {
    let executors = state.store.executors().await?;
    let (page, next_cursor) = query.0.page(executors, |e| e.registration.name.as_str())?;
    let items = page.into_iter().map(convert::wire_executor).collect();
    Ok(HttpResponse::Ok().json(wire::ExecutorList { items, next_cursor }))
}

/// Read an executor's registration
#[utoipa::path(
    tag = "executors",
    operation_id = "get_executor",
    params(("name" = String, Path, description = "The executor's name")),
    responses(
        (status = 200, description = "The registration, without its secrets", body = wire::Executor),
        NoSuchExecutor,
    )
)]
#[get("/executors/{name}")]
pub(super) async fn get_executor(state: Shared, name: Path<String>) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(convert::wire_executor(find(&state, &name).await?)))
}

pub(super) async fn find(state: &Shared, name: &str) -> Result<Executor, Error> {
    state.store.executor(name.to_owned()).await?.ok_or_else(not_found)
}

/// Register an executor
///
/// Replaces what was registered under the name. Waiting tasks go to the executors that serve
/// their paths now.
#[utoipa::path(
    tag = "executors",
    operation_id = "put_executor",
    params(("name" = String, Path, description = "1 to 100 of A-Z a-z 0-9 . _ -")),
    request_body = wire::ExecutorRequest,
    responses(
        (status = 200, description = "The registration was replaced", body = wire::Executor),
        (status = 201, description = "The executor is registered", body = wire::Executor),
        Refused,
    )
)]
#[put("/executors/{name}")]
pub(super) async fn put_executor(
    state: Shared,
    name: Path<String>,
    body: Body<wire::ExecutorRequest>,
) -> Result<HttpResponse, Error> {
    let registration = convert::registration(name.parse()?, &body.0)?;
    let registered = state.store.put_executor(registration).await?.map_err(|NoSuchPlugin| {
        Error::new(ErrorCode::InvalidField, "no plugin has this name").at("/plugin")
    })?;
    let mut answer = if registered.created { HttpResponse::Created() } else { HttpResponse::Ok() };
    Ok(answer.json(convert::wire_executor(registered.executor)))
}

/// Forget an executor
///
/// What it runs goes on; what waits for it goes to another executor, or waits for one.
#[utoipa::path(
    tag = "executors",
    operation_id = "delete_executor",
    params(("name" = String, Path, description = "The executor's name")),
    responses(
        (status = 204, description = "The executor is forgotten"),
        NoSuchExecutor,
    )
)]
#[delete("/executors/{name}")]
pub(super) async fn delete_executor(
    state: Shared,
    name: Path<String>,
) -> Result<HttpResponse, Error> {
    // A name that cannot be registered is not registered.
    let name: ExecutorName = name.parse().map_err(|_malformed| not_found())?;
    if state.store.remove_executor(name).await? {
        return Ok(HttpResponse::NoContent().finish());
    }
    Err(not_found())
}
