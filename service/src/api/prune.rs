//! `POST /prune`: deletes tasks that ended long ago, at once.

use std::time::Duration;

use actix_web::{HttpResponse, post};
use nightshift_openapi as wire;

use super::{
    Error, Shared, convert,
    extract::Body,
    responses::{Problems, Sent, Written},
};
use crate::{
    access::Caller,
    domain::{
        Invalid,
        limits::RETENTION_MAX,
        retention::{EndedCounts, Retention},
    },
};

/// How many transactions one request runs at most.
const STEPS_MAX: u32 = 20;

/// Delete tasks that ended long ago
///
/// The service does so by itself all the time. This does it now, or with another retention, or
/// only says what it would do. READY and RUNNING tasks are never deleted. Where there is much to
/// delete, `remaining` says that one has to ask again.
#[utoipa::path(
    tag = "service",
    operation_id = "prune_tasks",
    request_body(content = wire::PruneRequest, example = json!(wire::examples::prune_request())),
    responses(
        (status = 200, description = "What was deleted, or would be", body = wire::Pruned,
            example = json!(wire::examples::pruned())),
        Problems<(Sent, Written)>,
    )
)]
#[post("/prune")]
pub(super) async fn prune_tasks(
    state: Shared,
    caller: Caller,
    body: Body<wire::PruneRequest>,
) -> Result<HttpResponse, Error> {
    let wire::PruneRequest { dry_run, retention_seconds, retention_failed_seconds } = body.0;
    let retention = Retention {
        ended: age("retention_seconds", retention_seconds, state.retention.ended)?,
        failed: age("retention_failed_seconds", retention_failed_seconds, state.retention.failed)?,
    };
    if dry_run {
        let counts = state.store.prunable(retention).await?;
        return Ok(HttpResponse::Ok().json(convert::wire_pruned(counts, false)));
    }
    // In steps, so that other commands come in between.
    let mut deleted = EndedCounts::default();
    let mut more = true;
    for _ in 0..STEPS_MAX {
        let step = state.store.prune_now(retention, caller.note("prune_tasks", &"tasks")).await?;
        deleted = deleted.plus(step.deleted);
        more = step.more;
        if !more {
            break;
        }
    }
    Ok(HttpResponse::Ok().json(convert::wire_pruned(deleted, more)))
}

fn age(field: &'static str, seconds: Option<i64>, default: Duration) -> Result<Duration, Invalid> {
    let Some(seconds) = seconds else {
        return Ok(default);
    };
    let age = u64::try_from(seconds).ok().map(Duration::from_secs);
    age.filter(|age| *age <= RETENTION_MAX)
        .ok_or_else(|| Invalid::new(field, format!("must be 0 to {}", RETENTION_MAX.as_secs())))
}
