//! `GET /stats`: how many tasks there are, by status and queue.

use actix_web::{HttpResponse, get};
use nightshift_openapi as wire;

use super::{
    Error, Shared, convert,
    responses::{Problems, Stored},
};

/// Count everything
///
/// Tasks by status and queue, and how many ended lately. Counts are exact, so where millions of
/// tasks are kept this takes a while.
#[utoipa::path(
    tag = "service",
    operation_id = "get_stats",
    security((), ("bearer" = ["read"])),
    responses(
        (status = 200, description = "The whole at a glance", body = wire::Stats,
            example = json!(wire::examples::stats())),
        Problems<Stored>,
    )
)]
#[get("/stats")]
pub(super) async fn get_stats(state: Shared) -> Result<HttpResponse, Error> {
    let counted = state.store.stats().await?;
    Ok(HttpResponse::Ok().json(convert::wire_stats(counted, state.clock.now())))
}
