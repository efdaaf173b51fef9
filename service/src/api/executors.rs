//! `/executors`: registers, changes and lists executors.

use actix_web::{HttpResponse, delete, get, patch, put, web::Path};
use nightshift_openapi as wire;
use nightshift_openapi::ErrorCode;

use super::{
    Error, Shared, convert,
    cursor::ByName,
    extract::{Body, Query},
    params::OfExecutor,
    responses::{Counted, NoSuchExecutor, Paged, Problems, Sent, Stored, Written},
};
use crate::{
    access::Caller,
    domain::{
        Invalid,
        executor::{Executor, Registration, Target},
        limits::{EXECUTORS_MAX, TASK_PATHS_IN_ALL_MAX},
        names::ExecutorName,
        reach::Refusal,
        token::Scope,
    },
    store::{self, NotRegistered},
};

fn not_found() -> Error {
    Error::new(ErrorCode::ExecutorNotFound, "no executor has this name")
}

/// List executors, by name
///
/// With what each serves, and why nothing is sent to it where that is so.
#[utoipa::path(
    tag = "executors",
    operation_id = "list_executors",
    security((), ("bearer" = ["read"])),
    params(ByName),
    responses(
        (status = 200, description = "One page", body = wire::ExecutorList,
            example = json!(wire::examples::executor_list())),
        Problems<(Paged, Stored)>,
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
///
/// With its state: whether it is paused, or held after deliveries that failed.
#[utoipa::path(
    tag = "executors",
    operation_id = "get_executor",
    security((), ("bearer" = ["read"])),
    params(OfExecutor),
    responses(
        (status = 200, description = "The registration, without its secrets", body = wire::Executor,
            example = json!(wire::examples::executor())),
        Problems<(NoSuchExecutor, Stored)>,
    )
)]
#[get("/executors/{name}")]
pub(super) async fn get_executor(state: Shared, name: Path<String>) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(convert::wire_executor(find(&state, &name).await?)))
}

pub(super) async fn find(state: &Shared, name: &str) -> Result<Executor, Error> {
    let name = known_name(name)?;
    state.store.executor(name.as_str().to_owned()).await?.ok_or_else(not_found)
}

/// Parses the name of an existing executor. A name that is not valid cannot be registered, so it is
/// not found.
fn known_name(name: &str) -> Result<ExecutorName, Error> {
    name.parse().map_err(|_malformed| not_found())
}

/// Register an executor
///
/// Replaces what was registered under the name, but for secrets that are left out. Waiting tasks go to the executors that serve
/// their paths now. A token of scope `work` registers executors of kind `worker` only, and replaces
/// no others; the rest is for `admin`.
#[utoipa::path(
    tag = "executors",
    operation_id = "put_executor",
    security((), ("bearer" = ["work"])),
    params(OfExecutor),
    request_body(content = wire::ExecutorRequest, examples(
        ("worker" = (summary = "A worker asks for tasks", value = json!(wire::examples::worker_request()))),
        ("http" = (summary = "The service calls", value = json!(wire::examples::http_request()))),
        ("wasm" = (summary = "The service runs a plugin", value = json!(wire::examples::wasm_request()))),
    )),
    responses(
        (status = 200, description = "The registration was replaced", body = wire::Executor,
            example = json!(wire::examples::executor())),
        (status = 201, description = "The executor is registered", body = wire::Executor,
            example = json!(wire::examples::executor())),
        Problems<(Sent, Counted, Written)>,
    )
)]
#[put("/executors/{name}")]
pub(super) async fn put_executor(
    state: Shared,
    caller: Caller,
    name: Path<String>,
    body: Body<wire::ExecutorRequest>,
) -> Result<HttpResponse, Error> {
    let name: ExecutorName = name.parse()?;
    let before = match state.store.executor(name.as_str().to_owned()).await {
        // The old registration cannot be read, so this request replaces it. Only an admin may do
        // that, since the service cannot tell whether it was a worker.
        Err(store::Error::Corrupt(_)) if caller.may(Scope::Admin) => None,
        before => before?,
    };
    let before = before.map(|executor| executor.registration.target);
    let registration = convert::registration(name, &body.0, &state.vault, before.as_ref())?;
    if !caller.may(Scope::Admin) {
        check_worker(&registration, before.as_ref())?;
    }
    if let Target::Http { url, .. } = &registration.target {
        let refused = |refusal: Refusal| Invalid::new("url", format!("is refused: {refusal}"));
        state.network.admit(url).await.map_err(refused)?;
    }
    let note = caller.note("put_executor", &registration.name);
    let registered = state.store.put_executor(registration, note).await?;
    let registered = registered.map_err(not_registered)?;
    let mut answer = if registered.created { HttpResponse::Created() } else { HttpResponse::Ok() };
    Ok(answer.json(convert::wire_executor(registered.executor)))
}

pub(super) fn not_registered(refusal: NotRegistered) -> Error {
    let limit = |detail: String| Error::new(ErrorCode::LimitReached, detail);
    match refusal {
        NotRegistered::NoSuchPlugin => {
            Error::new(ErrorCode::InvalidField, "no plugin has this name").at("/plugin")
        }
        NotRegistered::TooManyExecutors => {
            limit(format!("{EXECUTORS_MAX} executors are registered, and no more may be"))
        }
        NotRegistered::TooManyTaskPaths => limit(format!(
            "all executors together may have {TASK_PATHS_IN_ALL_MAX} task paths; a pattern such as \
             `myapp.tasks.*` takes the place of many"
        )),
    }
}

/// Checks a registration by a token of scope `work`: it may register workers, and replace only
/// workers.
fn check_worker(registration: &Registration, before: Option<&Target>) -> Result<(), Error> {
    if registration.target.is_worker() && before.is_none_or(Target::is_worker) {
        return Ok(());
    }
    let detail = "the token needs the scope admin, for another executor than one of kind worker";
    Err(Error::new(ErrorCode::Forbidden, detail))
}

/// Pause, resume or limit an executor
///
/// A member that is left out stays as it is. Resuming also ends a hold.
#[utoipa::path(
    tag = "executors",
    operation_id = "update_executor",
    params(OfExecutor),
    request_body(content = wire::ExecutorChange, example = json!(wire::examples::executor_change())),
    responses(
        (status = 200, description = "The executor as it is now", body = wire::Executor,
            example = json!(wire::examples::executor())),
        Problems<(Sent, NoSuchExecutor, Written)>,
    )
)]
#[patch("/executors/{name}")]
pub(super) async fn update_executor(
    state: Shared,
    caller: Caller,
    name: Path<String>,
    body: Body<wire::ExecutorChange>,
) -> Result<HttpResponse, Error> {
    let name = known_name(&name)?;
    let note = caller.note("update_executor", &name);
    let change = convert::executor_change(name, &body.0)?;
    let executor = state.store.change_executor(change, note).await?.ok_or_else(not_found)?;
    Ok(HttpResponse::Ok().json(convert::wire_executor(executor)))
}

/// Forget an executor
///
/// What it runs goes on; what waits for it goes to another executor, or waits for one.
#[utoipa::path(
    tag = "executors",
    operation_id = "delete_executor",
    params(OfExecutor),
    responses(
        (status = 204, description = "The executor is forgotten"),
        Problems<(NoSuchExecutor, Written)>,
    )
)]
#[delete("/executors/{name}")]
pub(super) async fn delete_executor(
    state: Shared,
    caller: Caller,
    name: Path<String>,
) -> Result<HttpResponse, Error> {
    let name = known_name(&name)?;
    let note = caller.note("delete_executor", &name);
    if state.store.remove_executor(name, note).await? {
        return Ok(HttpResponse::NoContent().finish());
    }
    Err(not_found())
}
