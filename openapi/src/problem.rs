use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An error answer by RFC 9457, sent as `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Where the service explains the code: a path on the host that was called. Programs ought to
    /// decide by `code`.
    #[serde(rename = "type")]
    #[schema(example = "/docs/errors#invalid_field")]
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
    /// The query parameter concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "limit")]
    pub parameter: Option<String>,
    /// Advice for the caller, in one sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "Correct the field that `pointer` names.")]
    pub advice: Option<String>,
}

impl Problem {
    /// A problem of this kind, about no place in particular.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            problem_type: code.explained_at(),
            title: code.title().to_owned(),
            status: code.status(),
            code: code.name().to_owned(),
            detail: detail.into(),
            pointer: None,
            parameter: None,
            advice: Some(code.advice().to_owned()),
        }
    }

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

            /// The path at which each service explains it.
            #[must_use]
            pub fn explained_at(self) -> String {
                format!("/docs/errors#{}", self.name())
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
        "Correct the parameter that `parameter` names, or leave it out.";
    UnexpectedBody "unexpected_body" 400 "The operation takes no body"
        "Leave the body out; options of this operation, if it has any, are query parameters.";
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
        "Compare the id with the one that was answered; the task may also have been deleted.";
    ExecutorNotFound "executor_not_found" 404 "There is no such executor"
        "Register it with PUT /executors/{name}.";
    PluginNotFound "plugin_not_found" 404 "There is no such plugin, or no such version of it"
        "Install it with PUT /plugins/{name}; GET /plugins/{name} lists the versions.";
    QueueNotFound "queue_not_found" 404 "No queue can have this name"
        "Use a name of 1 to 255 characters, with neither spaces nor `*`.";
    TokenNotFound "token_not_found" 404 "There is no such token"
        "Look for it in the list of GET /tokens.";
    ExecutorNotWorker "executor_not_worker" 409 "The executor is not of kind worker"
        "Ask for leases of an executor of kind worker; the service calls this one by itself.";
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
        "Read its result; nothing is left to cancel.";
    TaskNotFinished "task_not_finished" 409 "The task has not ended"
        "Wait for it, or cancel it first.";
    TaskNotRetryable "task_not_retryable" 409 "The task cannot be retried"
        "Enqueue a new task; only a FAILED or CANCELLED one can be retried.";
    UniqueKeyTaken "unique_key_taken" 409 "Another live task has this task's unique key"
        "Wait until that one has ended.";
    LeaseLost "lease_lost" 409 "The attempt is over"
        "Stop the work: its lease ran out, it was finished, or the task was cancelled.";
    BodyTooLarge "body_too_large" 413 "The body is too large"
        "Keep large inputs elsewhere and send a reference, or split the batch.";
    UnsupportedMediaType "unsupported_media_type" 415 "The content type is not taken here"
        "Send `Content-Type: application/json` (a batch may be `application/x-ndjson`; a plugin is \
         `application/wasm`).";
    UnsupportedEncoding "unsupported_encoding" 415 "The body is encoded in a way that is not taken here"
        "Send the body as it is, without `Content-Encoding`.";
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
