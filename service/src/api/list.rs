//! `GET /tasks`: lists tasks page by page.

use actix_web::{HttpResponse, get};
use nightshift_openapi as wire;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Error, Shared, answer, convert, cursor,
    extract::Query,
    responses::{Paged, Problems, Stored},
};
use crate::{
    access::Caller,
    domain::Timestamp,
    memory::Held,
    store::{PathFilter, Phase, TaskFilter},
};

/// What a list of tasks is to show.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only tasks with this status.
    #[param(example = "READY")]
    status: Option<wire::TaskStatus>,
    /// Only tasks of this queue.
    #[param(pattern = r"^[^\u0000]*$", example = json!(wire::examples::QUEUE))]
    queue_name: Option<String>,
    /// Only tasks with this path, or, ending with `*`, with this prefix.
    #[param(pattern = r"^[^\u0000]*$", example = "myapp.tasks.*")]
    task_path: Option<String>,
    /// Only tasks of this executor.
    #[param(pattern = r"^[^\u0000]*$", example = json!(wire::examples::EXECUTOR))]
    executor: Option<String>,
    /// Only tasks with this label, as `key=value`.
    #[param(pattern = r"^[^\u0000]*=[^\u0000]*$", example = "target=m31")]
    label: Option<String>,
    /// Only tasks enqueued after this time.
    #[param(example = "2026-11-25T00:00:00Z")]
    enqueued_after: Option<wire::Timestamp>,
    /// Only tasks enqueued before this time.
    #[param(example = "2026-11-26T00:00:00Z")]
    enqueued_before: Option<wire::Timestamp>,
    /// 1 to 1,000; 100 by default.
    #[param(minimum = 1, maximum = 1000, example = 100)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(pattern = r"^[A-Za-z0-9_\-]{10}[AEIMQUYcgkosw048]$", example = json!(wire::examples::CURSOR))]
    cursor: Option<String>,
}

impl ListQuery {
    fn filter(self) -> Result<TaskFilter, Error> {
        for (name, text) in [
            ("queue_name", &self.queue_name),
            ("task_path", &self.task_path),
            ("executor", &self.executor),
            ("label", &self.label),
        ] {
            // PostgreSQL cannot store a NUL character, so no name has one.
            if text.as_ref().is_some_and(|text| text.contains('\0')) {
                let detail = format!("{name} must not hold a NUL");
                return Err(Error::of_parameter(name, detail));
            }
        }
        let label = self.label.map(|label| {
            label
                .split_once('=')
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .ok_or_else(|| Error::of_parameter("label", "label must be key=value"))
        });
        Ok(TaskFilter {
            phase: self.status.map(|status| match status {
                wire::TaskStatus::Ready => Phase::Waiting,
                wire::TaskStatus::Running => Phase::Running,
                wire::TaskStatus::Successful => Phase::Successful,
                wire::TaskStatus::Failed => Phase::Failed,
                wire::TaskStatus::Cancelled => Phase::Cancelled,
            }),
            queue_name: self.queue_name,
            task_path: self.task_path.map(|path| match path.strip_suffix('*') {
                Some(prefix) => PathFilter::Prefix(prefix.to_owned()),
                None => PathFilter::Exact(path),
            }),
            executor: self.executor,
            label: label.transpose()?,
            enqueued_after: self.enqueued_after.map(Timestamp::from),
            enqueued_before: self.enqueued_before.map(Timestamp::from),
            before: self.cursor.as_deref().map(cursor::to_place).transpose()?,
            limit: cursor::limit(self.limit)?,
        })
    }
}

/// List tasks
///
/// Newest first. A page never skips or repeats a task, whatever arrives meanwhile.
#[utoipa::path(
    tag = "tasks",
    operation_id = "list_tasks",
    security((), ("bearer" = ["read"])),
    params(ListQuery),
    responses(
        (status = 200, description = "One page", body = wire::TaskList,
            example = json!(wire::examples::task_list())),
        Problems<(Paged, Stored)>,
    )
)]
#[get("/tasks")]
pub(super) async fn list_tasks(
    state: Shared,
    caller: Caller,
    query: Query<ListQuery>,
) -> Result<HttpResponse, Error> {
    let mut filter = query.0.filter()?;
    filter.queue_name = caller.hold_to_queue(filter.queue_name)?;
    let Held { value: page, share } = state.store.tasks(filter).await?;
    answer::json(&state, HttpResponse::Ok(), Some(share), move || {
        Ok(wire::TaskList {
            items: page.tasks.into_iter().map(convert::wire_summary).collect(),
            next_cursor: page.next.map(cursor::from_place),
        })
    })
    .await
}
