//! [`Error`], the only error that handlers return, and its rendering as a problem (RFC 9457).

use std::{fmt, time::Duration};

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use nightshift_openapi::{ErrorCode, Problem};

use super::Home;
use crate::{
    access::GUESSES_WINDOW,
    domain::{
        Invalid,
        limits::{DETAIL_BYTES_MAX, POINTER_KEY_BYTES_MAX, cut_end},
    },
    store::{self, Misplaced},
};

/// `Retry-After` of answers that the service is too busy.
const RETRY_OVERLOADED: Duration = Duration::from_secs(1);
/// `Retry-After` while the database is away or the service stops.
const RETRY_UNAVAILABLE: Duration = Duration::from_secs(5);

/// An answer that reports a failure. It is the only error that handlers return.
#[derive(Debug)]
pub struct Error {
    code: ErrorCode,
    detail: String,
    pointer: Option<String>,
    parameter: Option<Box<str>>,
    /// The cause, for the log only. It is not shown to the client.
    source: Option<store::Error>,
    /// The methods that the route accepts, for `method_not_allowed`.
    allow: Option<Box<str>>,
}

impl Error {
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        let (pointer, parameter, source, allow) = (None, None, None, None);
        Self { code, detail: detail.into(), pointer, parameter, source, allow }
    }

    /// The error for a query parameter that cannot be read.
    pub(super) fn of_parameter(name: &str, detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidQuery, detail).about(name)
    }

    /// Sets the query parameter that the error is about. A very long name belongs to no parameter,
    /// so it is left out.
    #[must_use]
    pub(super) fn about(mut self, parameter: &str) -> Self {
        let known = parameter.len() <= POINTER_KEY_BYTES_MAX;
        self.parameter = known.then(|| parameter.into());
        self
    }

    /// Sets the place in the body that the error is about, as a JSON pointer.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// The same error, for a value that is a part of the body: puts `prefix` in front of its
    /// pointer.
    #[must_use]
    pub fn below(mut self, prefix: &str) -> Self {
        self.pointer = Some(format!("{prefix}{}", self.pointer.unwrap_or_default()));
        self
    }

    pub fn method_not_allowed(allow: String) -> Self {
        let detail = format!("this route takes {allow}");
        Self { allow: Some(allow.into()), ..Self::new(ErrorCode::MethodNotAllowed, detail) }
    }

    /// Whether the error is about this place, and its detail begins with `start`.
    pub(super) fn is_at(&self, pointer: &str, start: &str) -> bool {
        self.pointer.as_deref() == Some(pointer) && self.detail.starts_with(start)
    }

    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// The body of the answer.
    pub fn problem(&self) -> Problem {
        Problem {
            pointer: self.pointer.clone(),
            parameter: self.parameter.as_deref().map(str::to_owned),
            ..Problem::new(self.code, cut_end(&self.detail, DETAIL_BYTES_MAX))
        }
    }

    /// The body of the answer of a service that may be below a path of a proxy.
    pub(super) fn problem_of(&self, home: &Home) -> Problem {
        Problem { problem_type: home.path(&self.code.explained_at()), ..self.problem() }
    }

    fn retry_after(&self) -> Option<Duration> {
        match (self.code.status(), self.code) {
            (503, ErrorCode::Overloaded) => Some(RETRY_OVERLOADED),
            (503, _) => Some(RETRY_UNAVAILABLE),
            (429, _) => Some(GUESSES_WINDOW),
            (_, _) => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.detail)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Renders the error. This is the one place where its cause is logged.
    fn error_response(&self) -> HttpResponse {
        // The loss of the database is logged once, by the code that notices it, and not for each
        // request.
        if let Some(source) = &self.source
            && self.code != ErrorCode::Unavailable
        {
            tracing::error!(
                error = source as &dyn std::error::Error,
                code = self.code.name(),
                "a request failed"
            );
        }
        let mut answer = HttpResponse::build(self.status_code());
        answer.content_type("application/problem+json");
        if let Some(retry_after) = self.retry_after() {
            answer.insert_header((header::RETRY_AFTER, retry_after.as_secs()));
        }
        if self.code == ErrorCode::UnsupportedEncoding {
            answer.insert_header((header::ACCEPT_ENCODING, "identity"));
        }
        if self.code == ErrorCode::Unauthorized {
            answer.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"nightshift\""));
        }
        if let Some(allow) = self.allow.as_deref() {
            answer.insert_header((header::ALLOW, allow));
        }
        match serde_json::to_vec(&self.problem()) {
            Ok(body) => answer.body(body),
            Err(_) => answer.finish(),
        }
    }
}

impl From<store::Error> for Error {
    fn from(source: store::Error) -> Self {
        let (code, detail) = match &source {
            store::Error::Overloaded => {
                return Self::new(ErrorCode::Overloaded, "too many writes are waiting");
            }
            store::Error::NoRoom => return super::answer::no_room(),
            store::Error::Closed => {
                return Self::new(ErrorCode::ShuttingDown, "the service is stopping");
            }
            store::Error::Unavailable(_) => (
                ErrorCode::Unavailable,
                match source.misplaced() {
                    None => "the database cannot be used at the moment",
                    Some(Misplaced::File(_)) => {
                        "the database's file was moved, deleted or replaced, so nothing is read or \
                         written; the service's log says what to do"
                    }
                    Some(Misplaced::Schema(_)) => {
                        "the database was made anew and lacks its tables; the service's log says \
                         what to do"
                    }
                },
            ),
            store::Error::Corrupt(what) => {
                let detail = format!("the database holds {what}");
                return Self { source: Some(source), ..Self::new(ErrorCode::Internal, detail) };
            }
            store::Error::Statement(_) => {
                (ErrorCode::Internal, "the cause is in the service's log")
            }
        };
        Self { source: Some(source), ..Self::new(code, detail) }
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::new(ErrorCode::InvalidField, format!("{} {}", invalid.field, invalid.reason))
            .at(format!("/{}", invalid.field))
    }
}
