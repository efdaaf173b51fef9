//! `GET /healthz` and `GET /readyz`: whether the process is alive, and whether it can take
//! requests.

use std::time::Duration;

use actix_web::{HttpResponse, get};
use nightshift_openapi::ErrorCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Error, Shared,
    responses::{Alive, Problems, Written},
};

/// How long the database may take to commit an empty transaction.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// All is well.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// Always `ok`.
    #[schema(value_type = String, example = "ok")]
    status: &'static str,
}

impl Health {
    const OK: Self = Self { status: "ok" };
}

/// Is the process alive?
///
/// It is while each of the threads that it cannot do without is. Else it is about to end.
#[utoipa::path(
    tag = "service",
    operation_id = "get_health",
    security(()),
    responses(
        (status = 200, description = "It answers", body = Health, example = json!(Health::OK)),
        Problems<Alive>,
    )
)]
#[get("/healthz")]
pub(super) async fn get_health(state: Shared) -> Result<HttpResponse, Error> {
    let ended = state.vital.ended();
    if ended.is_empty() {
        return Ok(HttpResponse::Ok().json(Health::OK));
    }
    let detail = format!("what this process cannot do without has ended: {}", ended.join(", "));
    Err(Error::new(ErrorCode::Unavailable, detail))
}

/// Can it work?
///
/// Yes when it can claim and commit, is not about to stop, and plugins can still read files and
/// look names up.
#[utoipa::path(
    tag = "service",
    operation_id = "get_readiness",
    security(()),
    responses(
        (status = 200, description = "It can claim and commit", body = Health, example = json!(Health::OK)),
        Problems<Written>,
    )
)]
#[get("/readyz")]
pub(super) async fn get_readiness(state: Shared) -> Result<HttpResponse, Error> {
    if state.stopping.is_cancelled() {
        return Err(Error::new(ErrorCode::ShuttingDown, "the service is stopping"));
    }
    match tokio::time::timeout(CHECK_TIMEOUT, state.store.check()).await {
        Ok(checked) => checked?,
        Err(_elapsed) => {
            let detail = "the database did not commit within 2 s";
            return Err(Error::new(ErrorCode::Unavailable, detail));
        }
    }
    if state.plugins.hanging().all {
        let detail = "all threads for plugins' file operations or name lookups hang";
        return Err(Error::new(ErrorCode::Unavailable, detail));
    }
    Ok(HttpResponse::Ok().json(Health::OK))
}
