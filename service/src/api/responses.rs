//! The problems that operations answer with, for the document. What is said here of every answer
//! of a kind is said once.
#![expect(dead_code, reason = "their types are read, not their values")]

use nightshift_openapi::Problem;
use utoipa::IntoResponses;

#[derive(IntoResponses)]
#[response(
    status = 400,
    description = "A parameter cannot be understood",
    content_type = "application/problem+json"
)]
pub(super) struct BadQuery(Problem);

#[derive(IntoResponses)]
#[response(
    status = 404,
    description = "There is no such task",
    content_type = "application/problem+json"
)]
pub(super) struct NoSuchTask(Problem);

#[derive(IntoResponses)]
#[response(
    status = 404,
    description = "There is no such executor",
    content_type = "application/problem+json"
)]
pub(super) struct NoSuchExecutor(Problem);

#[derive(IntoResponses)]
#[response(
    status = 404,
    description = "There is no such plugin, or no such version of it",
    content_type = "application/problem+json"
)]
pub(super) struct NoSuchPlugin(Problem);

#[derive(IntoResponses)]
#[response(
    status = 409,
    description = "An executor runs the plugin",
    content_type = "application/problem+json"
)]
pub(super) struct InUse(Problem);

#[derive(IntoResponses)]
#[response(
    status = 404,
    description = "No queue can have this name",
    content_type = "application/problem+json"
)]
pub(super) struct NoSuchQueue(Problem);

#[derive(IntoResponses)]
#[response(
    status = 409,
    description = "The executor is not of kind worker",
    content_type = "application/problem+json"
)]
pub(super) struct NotAWorker(Problem);

#[derive(IntoResponses)]
#[response(
    status = 409,
    description = "The attempt is over",
    content_type = "application/problem+json"
)]
pub(super) struct AttemptOver(Problem);

#[derive(IntoResponses)]
#[response(
    status = 409,
    description = "The task is not where it would have to be",
    content_type = "application/problem+json"
)]
pub(super) struct WrongStatus(Problem);

#[derive(IntoResponses)]
#[response(
    status = "4XX",
    description = "Nothing is stored",
    content_type = "application/problem+json"
)]
pub(super) struct Refused(Problem);

#[derive(IntoResponses)]
#[response(
    status = 503,
    description = "Try again after so many seconds",
    content_type = "application/problem+json",
    headers(("Retry-After" = u32, description = "Seconds to wait"))
)]
pub(super) struct TryLater(Problem);
