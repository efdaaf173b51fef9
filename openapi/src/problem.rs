use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An error answer by RFC 9457, sent as `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Where the code is explained, relative to the service's documentation.
    #[serde(rename = "type")]
    #[schema(example = "docs/ERRORS.md#invalid_field")]
    pub problem_type: String,
    /// The code in words; the same for each error of that code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable name that programs may rely on; docs/ERRORS.md lists them.
    #[schema(example = "invalid_field")]
    pub code: String,
    /// What is wrong with this request.
    pub detail: String,
    /// The field concerned, as a JSON pointer (RFC 6901) into the request's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "/priority")]
    pub pointer: Option<String>,
}

impl Problem {
    /// The code as a value to match on; `None` for one that this version does not know.
    #[must_use]
    pub fn error_code(&self) -> Option<ErrorCode> {
        ErrorCode::ALL.iter().copied().find(|code| code.name() == self.code)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)?;
        match &self.pointer {
            Some(pointer) => write!(f, " (at {pointer})"),
            None => Ok(()),
        }
    }
}

/// Stamps out the table of codes: variant, name, status, title, and what the caller can do.
macro_rules! error_codes {
    ($($variant:ident $name:literal $status:literal $title:literal $advice:literal;)*) => {
        /// Every error that the service answers with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $(#[doc = $title] $variant,)*
        }

        impl ErrorCode {
            /// All codes, in the order of docs/ERRORS.md.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// The code in words.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// What the caller can do about it.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)* }
            }
        }
    };
}

error_codes! {
    MalformedJson "malformed_json" 400 "The body is not JSON"
        "Send JSON by RFC 8259. NaN and Infinity are not JSON.";
    InvalidHeader "invalid_header" 400 "A header cannot be understood"
        "Correct the header that `detail` names.";
    InvalidQuery "invalid_query" 400 "A query parameter cannot be understood"
        "Correct the parameter that `detail` names.";
    InvalidCursor "invalid_cursor" 400 "The cursor is not one of ours"
        "Use `next_cursor` as it came, or start again without a cursor.";
    Unauthorized "unauthorized" 401 "The token is missing, or does not hold"
        "Send `Authorization: Bearer TOKEN` with a token that is neither expired nor revoked.";
    Forbidden "forbidden" 403 "The token is not good for this"
        "Use a token of the scope, or for the queue, that `detail` names.";
    OriginRefused "origin_refused" 403 "A page of this origin may not do that"
        "Name the origin in `cors_origins`, if the page is yours.";
    UnknownRoute "unknown_route" 404 "There is no such route"
        "Compare the path with /openapi.json.";
    TaskNotFound "task_not_found" 404 "There is no such task"
        "The id is malformed, was never given, or the task has been deleted.";
    ExecutorNotFound "executor_not_found" 404 "There is no such executor"
        "Register it with PUT /executors/{name}.";
    PluginNotFound "plugin_not_found" 404 "There is no such plugin, or no such version of it"
        "Install it with PUT /plugins/{name}; GET /plugins/{name} lists the versions.";
    QueueNotFound "queue_not_found" 404 "No queue can have this name"
        "A name has 1 to 255 characters, and neither spaces nor `*`.";
    TokenNotFound "token_not_found" 404 "There is no such token"
        "GET /tokens lists them.";
    ExecutorNotWorker "executor_not_worker" 409 "The executor is not of kind worker"
        "The service calls it by itself; only executors of kind worker are asked for leases.";
    PluginInUse "plugin_in_use" 409 "An executor runs the plugin"
        "Forget the executor that `detail` names first, or let it run another plugin.";
    TokenNameTaken "token_name_taken" 409 "Another token has, or had, this name"
        "Choose another name: what the audit log says of the first is to stay true.";
    AdminTokenNeeded "admin_token_needed" 409 "Nobody could give out tokens any more"
        "Make a token of scope `admin` that does not expire first, or set `admin_token_file`.";
    LimitReached "limit_reached" 409 "There are as many as there may be"
        "Forget what nobody needs any more; `detail` names the limit.";
    MethodNotAllowed "method_not_allowed" 405 "The route does not take this method"
        "Use a method that the `Allow` header names.";
    BodyTimeout "body_timeout" 408 "The body came too slowly"
        "Send the request again; the whole body has to arrive within the time in `detail`.";
    IdConflict "id_conflict" 409 "Another task has this id"
        "Choose a new id, or repeat the first request unchanged.";
    TaskFinished "task_finished" 409 "The task has ended"
        "Nothing is left to cancel.";
    TaskNotFinished "task_not_finished" 409 "The task has not ended"
        "Wait for it, or cancel it first.";
    TaskNotRetryable "task_not_retryable" 409 "The task cannot be retried"
        "Only a FAILED or CANCELLED task can be; enqueue a new one.";
    UniqueKeyTaken "unique_key_taken" 409 "Another live task has this task's unique key"
        "Wait until that one has ended.";
    LeaseLost "lease_lost" 409 "The attempt is over"
        "Stop the work: its lease ran out, it was finished, or the task was cancelled.";
    BodyTooLarge "body_too_large" 413 "The body is too large"
        "Keep large inputs elsewhere and send a reference, or split the batch.";
    UnsupportedMediaType "unsupported_media_type" 415 "The content type is not taken here"
        "Send `Content-Type: application/json` (a batch may be `application/x-ndjson`; a plugin is \
         `application/wasm`).";
    UnknownHost "unknown_host" 421 "The service is not called by this name"
        "Name the host in `allowed_hosts`, or call the service by its `public_url` or an address \
         of loopback.";
    InvalidField "invalid_field" 422 "A field cannot be accepted"
        "Correct the field that `pointer` names.";
    TooDeep "too_deep" 422 "The JSON is nested too deeply"
        "Nest at most 128 deep.";
    BatchSize "batch_size" 422 "The batch has no tasks, or too many"
        "Send 1 to 10,000 tasks in one batch.";
    InvalidPlugin "invalid_plugin" 422 "The component cannot be a plugin"
        "Correct what `detail` says; `nightshift plugin check FILE` says the same without a service.";
    IdempotencyMismatch "idempotency_mismatch" 422 "The idempotency key came with other content before"
        "Use a new key for a new request.";
    TooManyGuesses "too_many_guesses" 429 "Too many wrong tokens from this address"
        "Wait `Retry-After` seconds, and use a token that holds: such a one is let in meanwhile.";
    Internal "internal" 500 "The service made a mistake"
        "Report it with the time of the request; the service's log has the cause.";
    Overloaded "overloaded" 503 "The service has too much to do"
        "Send the request again after `Retry-After` seconds.";
    Unavailable "unavailable" 503 "The database cannot be reached"
        "Send the request again after `Retry-After` seconds; give an id or an idempotency key, \
         since the first may have been stored.";
    ShuttingDown "shutting_down" 503 "The service is stopping"
        "Send the request again after `Retry-After` seconds.";
}
