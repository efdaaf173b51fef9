//! Describes the messages to HTTP executors for the OpenAPI document; docs/EXECUTORS.md says more.
//! The functions are never called: only their descriptions are used.

use nightshift_openapi as wire;
use utoipa::openapi::{Paths, PathsBuilder};

pub(super) fn webhooks() -> Paths {
    PathsBuilder::new()
        .path_from::<__path_receive_execute>()
        .path_from::<__path_receive_cancel>()
        .build()
}

/// An attempt is to be run
///
/// Sent to the `url` of an executor of kind `http`. Check the signature first.
#[utoipa::path(
    post,
    path = "task.execute",
    tag = "executors",
    operation_id = "receive_task_execute",
    params(
        ("webhook-id" = String, Header, description = "`{task_id}.{attempt}`, the same when an attempt is delivered again"),
        ("webhook-timestamp" = String, Header, description = "Seconds since 1970, signed as well: refuse old ones"),
        ("webhook-signature" = String, Header, description = "By Standard Webhooks; two, while a secret is being replaced"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context of whoever enqueued the task"),
    ),
    request_body(content = wire::ExecuteMessage, example = json!(wire::examples::execute_message())),
    responses(
        (status = 200, description = "Succeeded; the body is the return value, any JSON",
            body = serde_json::Value, example = json!({"sources": 1204})),
        (status = 202, description = "Accepted: it renews and finishes its lease by itself"),
        (status = 204, description = "Succeeded, with null"),
        (status = 401, description = "Not started: the signature is not known; the executor is held"),
        (status = 403, description = "Not started: the service may not; the executor is held"),
        (status = "4XX", description = "Failed, and not to be tried again", body = wire::ErrorReport,
            content_type = "application/problem+json", example = json!(wire::examples::error_report())),
        (status = 429, description = "Not started; nothing more before `Retry-After`",
            headers(("Retry-After" = String, description = "Seconds, or a date"))),
        (status = "5XX", description = "Failed, and to be tried again while attempts are left", body = wire::ErrorReport,
            content_type = "application/problem+json", example = json!(wire::examples::error_report())),
        (status = 503, description = "Not started; nothing more before `Retry-After`",
            headers(("Retry-After" = String, description = "Seconds, or a date"))),
    )
)]
#[expect(dead_code, reason = "its description is read")]
fn receive_execute() {}

/// An attempt is not wanted any more
///
/// It was cancelled, took too long, or its lease ran out.
#[utoipa::path(
    post,
    path = "task.cancel",
    tag = "executors",
    operation_id = "receive_task_cancel",
    params(
        ("webhook-id" = String, Header, description = "Names the message"),
        ("webhook-timestamp" = String, Header, description = "Seconds since 1970, signed as well"),
        ("webhook-signature" = String, Header, description = "By Standard Webhooks"),
    ),
    request_body(content = wire::CancelMessage, example = json!(wire::examples::cancel_message())),
    responses((status = "default", description = "Any answer will do"))
)]
#[expect(dead_code, reason = "its description is read")]
fn receive_cancel() {}
