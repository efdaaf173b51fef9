//! `GET /audit`: reads the audit log.

use actix_web::{HttpResponse, get};
use nightshift_openapi as wire;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Error, Shared, convert, cursor,
    extract::Query,
    responses::{Paged, Problems, Stored},
};

/// Which page to show.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// 1 to 1,000; 100 by default.
    #[param(minimum = 1, maximum = 1000, example = 100)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(pattern = r"^[A-Za-z0-9_\-]{10}[AEIMQUYcgkosw048]$", example = json!(wire::examples::CURSOR))]
    cursor: Option<String>,
}

/// Read the audit log
///
/// Newest first: who registered, changed, cancelled, retried, deleted or pruned what, and who made
/// or revoked tokens. An entry is written in the transaction that does what it tells of, and kept
/// for `audit_retention_seconds` (a year).
#[utoipa::path(
    tag = "tokens",
    operation_id = "list_audit_entries",
    params(AuditQuery),
    responses(
        (status = 200, description = "One page", body = wire::AuditLog,
            example = json!(wire::examples::audit_log())),
        Problems<(Paged, Stored)>,
    )
)]
#[get("/audit")]
pub(super) async fn list_audit_entries(
    state: Shared,
    query: Query<AuditQuery>,
) -> Result<HttpResponse, Error> {
    let before = query.0.cursor.as_deref().map(cursor::to_place).transpose()?;
    let page = state.store.audit(before, cursor::limit(query.0.limit)?).await?;
    Ok(HttpResponse::Ok().json(wire::AuditLog {
        items: page.entries.into_iter().map(convert::wire_audit_entry).collect(),
        next_cursor: page.next.map(cursor::from_place),
    }))
}
