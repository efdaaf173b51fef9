use std::time::Duration;

use nightshift_openapi::{ErrorCode, Problem};
use thiserror::Error;

/// Why a call has no answer of the kind it is for.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The service refused, and said why.
    #[error("{problem}")]
    Problem {
        /// What it said.
        problem: Box<Problem>,
        /// How long it asked to wait before the next try.
        retry_after: Option<Duration>,
    },
    /// The service could not be reached, or the connection broke. Whether the request was
    /// carried out is not known.
    #[error("the service cannot be reached")]
    Transport(#[source] reqwest::Error),
    /// Something answered that does not speak this API, such as a proxy.
    #[error("an answer with status {status} that is not Nightshift's: {excerpt}")]
    Foreign {
        /// Its HTTP status.
        status: u16,
        /// Where its body begins.
        excerpt: String,
        /// How long it asked to wait before the next try.
        retry_after: Option<Duration>,
    },
    /// The call succeeded, but its answer cannot be read: it is of another version, or of another
    /// service.
    #[error("an answer that cannot be read: {excerpt}")]
    Unreadable {
        /// Where its body begins.
        excerpt: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A stream of events broke off.
    #[error("the stream of events broke off")]
    Stream(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The address of the service is not one.
    #[error("{0:?} is not an http or https address")]
    Address(String),
    /// The token has characters that no header can hold.
    #[error("the token is none: a header cannot hold it")]
    Token,
    /// The request cannot be written as JSON.
    #[error("the request cannot be written as JSON")]
    Request(#[source] serde_json::Error),
}

/// Of the address only what says where the service is: the path of a report has its lease's token, and
/// errors go into logs.
impl From<reqwest::Error> for Error {
    fn from(mut error: reqwest::Error) -> Self {
        if let Some(url) = error.url_mut() {
            url.set_path("");
            url.set_query(None);
            // A url with a host can be without them.
            url.set_username("").ok();
            url.set_password(None).ok();
        }
        Self::Transport(error)
    }
}

/// The result of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The code of a problem, if it is one that this version knows.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Problem { problem, .. } => problem.error_code(),
            Self::Transport(_)
            | Self::Foreign { .. }
            | Self::Stream(_)
            | Self::Unreadable { .. }
            | Self::Address(_)
            | Self::Token
            | Self::Request(_) => None,
        }
    }

    /// Whether the same call may succeed a little later: the service is away, stops, has too
    /// much to do, or did not get the request in time (408, as a process does that was paused).
    #[must_use]
    pub fn is_transient(&self) -> bool {
        let passes = |status: u16| status >= 500 || [408, 425, 429].contains(&status);
        match self {
            Self::Problem { problem, .. } => passes(problem.status),
            // What cannot be sent will not be sendable later.
            Self::Transport(error) => !error.is_builder(),
            Self::Stream(_) => true,
            Self::Foreign { status, .. } => passes(*status),
            Self::Unreadable { .. } | Self::Address(_) | Self::Token | Self::Request(_) => false,
        }
    }

    /// How long the service asked to wait before the next try.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Problem { retry_after, .. } | Self::Foreign { retry_after, .. } => *retry_after,
            Self::Transport(_)
            | Self::Unreadable { .. }
            | Self::Stream(_)
            | Self::Address(_)
            | Self::Token
            | Self::Request(_) => None,
        }
    }
}
