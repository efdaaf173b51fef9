//! `GET /tasks/{id}/logs`: reads the log of a task.

use actix_web::{HttpResponse, get, web::Path};
use nightshift_openapi as wire;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Error, Shared, answer, convert, cursor,
    extract::Query,
    params::OfTask,
    responses::{NoSuchTask, Paged, Problems, Stored},
    tasks::{not_found, task_id},
};
use crate::{access::Caller, memory::Held};

/// Which page to show.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LogQuery {
    /// 1 to 1,000; 100 by default.
    #[param(minimum = 1, maximum = 1000, example = 100)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(pattern = r"^[A-Za-z0-9_\-]{10}[AEIMQUYcgkosw048]$", example = json!(wire::examples::CURSOR))]
    cursor: Option<String>,
}

/// Read a task's log
///
/// The lines that executors sent with their heartbeats, oldest first. A log keeps its last
/// 10,000 lines or 4 MiB; `dropped` says how many went before.
#[utoipa::path(
    tag = "tasks",
    operation_id = "get_task_logs",
    security((), ("bearer" = ["read"])),
    params(OfTask, LogQuery),
    responses(
        (status = 200, description = "One page", body = wire::LogList,
            example = json!(wire::examples::log_list())),
        Problems<(Paged, NoSuchTask, Stored)>,
    )
)]
#[get("/tasks/{id}/logs")]
pub(super) async fn get_task_logs(
    state: Shared,
    caller: Caller,
    id: Path<String>,
    query: Query<LogQuery>,
) -> Result<HttpResponse, Error> {
    let id = caller.task(&state, task_id(&id)?).await?;
    let after = query.0.cursor.as_deref().map(cursor::to_place).transpose()?.unwrap_or(0);
    let limit = cursor::limit(query.0.limit)?;
    let page = state.store.logs(id, after, limit).await?.ok_or_else(not_found)?;
    let Held { value: page, share } = page;
    answer::json(&state, HttpResponse::Ok(), Some(share), move || {
        Ok(wire::LogList {
            items: page.lines.into_iter().map(convert::wire_log_line).collect(),
            next_cursor: page.next.map(cursor::from_place),
            dropped: page.dropped,
        })
    })
    .await
}
