use actix_web::{HttpResponse, post, web::Path};
use nightshift_openapi as wire;
use nightshift_openapi::ErrorCode;

use super::{
    Error, Shared, convert,
    extract::Report,
    responses::{AttemptOver, Refused},
};
use crate::{
    domain::{attempt::Outcome, lease::LeaseToken, task::TaskId},
    store::RenewRequest,
};

fn lost() -> Error {
    let detail = "the lease ran out, or the attempt has ended";
    Error::new(ErrorCode::LeaseLost, detail)
}

/// A token that names nothing is as good as one whose time is over.
fn token(text: &str) -> Result<LeaseToken, Error> {
    text.parse().map_err(|_malformed| lost())
}

/// Renew a lease
///
/// A heartbeat, to be sent well before the lease runs out. May carry progress and log lines.
#[utoipa::path(
    tag = "leases",
    operation_id = "renew_lease",
    params(("token" = String, Path, description = "The lease's token")),
    request_body = Option<wire::RenewRequest>,
    responses(
        (status = 200, description = "The lease is longer now", body = wire::LeaseRenewal),
        AttemptOver,
        Refused,
    )
)]
#[post("/leases/{token}/renew")]
pub(super) async fn renew_lease(
    state: Shared,
    path: Path<String>,
    body: Report<wire::RenewRequest>,
) -> Result<HttpResponse, Error> {
    let request = RenewRequest {
        token: token(&path)?,
        progress: body.0.progress.map(convert::progress).transpose()?,
        logs: convert::log_lines(body.0.logs)?,
    };
    let renewal = state.store.renew(request).await?.map_err(|_lost| lost())?;
    Ok(HttpResponse::Ok().json(wire::LeaseRenewal {
        expires_at: renewal.expires_at.into(),
        cancel_requested: renewal.cancel_requested,
    }))
}

/// Finish an attempt
///
/// With a return value, an error, or because it was cancelled. The answer is the task's record:
/// a task whose cancelling was asked for before is CANCELLED, whatever it finished with.
#[utoipa::path(
    tag = "leases",
    operation_id = "finish_lease",
    params(("token" = String, Path, description = "The lease's token")),
    request_body = wire::FinishRequest,
    responses(
        (status = 200, description = "The end is recorded", body = wire::Task),
        AttemptOver,
        Refused,
    )
)]
#[post("/leases/{token}/finish")]
pub(super) async fn finish_lease(
    state: Shared,
    path: Path<String>,
    body: Report<wire::FinishRequest>,
) -> Result<HttpResponse, Error> {
    let outcome = convert::outcome(body.0)?;
    let id = end(&state, &path, outcome).await?;
    let task = state.store.task(id).await?.ok_or_else(lost)?;
    Ok(HttpResponse::Ok().json(convert::wire_task(task)?))
}

/// Give a lease back
///
/// For an executor that shuts down before it began: the task waits again and no attempt is
/// counted.
#[utoipa::path(
    tag = "leases",
    operation_id = "release_lease",
    params(("token" = String, Path, description = "The lease's token")),
    responses(
        (status = 204, description = "The task waits again"),
        AttemptOver,
    )
)]
#[post("/leases/{token}/release")]
pub(super) async fn release_lease(
    state: Shared,
    path: Path<String>,
) -> Result<HttpResponse, Error> {
    end(&state, &path, Outcome::HandedBack).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn end(state: &Shared, path: &str, outcome: Outcome) -> Result<TaskId, Error> {
    state.store.finish(token(path)?, outcome).await?.map_err(|_lost| lost())
}
