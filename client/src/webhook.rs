//! Checks that a call of an HTTP executor comes from the service. Needs the feature `webhook`.
//!
//! ```no_run
//! use nightshift_client::webhook::{Message, Verifier};
//!
//! # fn example(headers: &reqwest::header::HeaderMap, body: &[u8])
//! # -> Result<(), Box<dyn std::error::Error>> {
//! let verifier = Verifier::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
//! match verifier.verify(body, |name| headers.get(name)?.to_str().ok())? {
//!     Message::Execute(message) => println!("run {}", message.data.task_path),
//!     Message::Cancel(message) => println!("stop {}", message.data.task_id),
//! }
//! # Ok(())
//! # }
//! ```

use std::borrow::Cow;

use nightshift_openapi::{CancelMessage, ExecuteMessage};
use reqwest::header::{HeaderMap, HeaderValue};
use serde::Deserialize;
use standardwebhooks::{
    HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook, WebhookError,
};
use thiserror::Error;

const SECRET_PREFIX: &str = "whsec_";
/// The base64 of 24 bytes without padding, below which the service takes none: an empty one would
/// let everybody in.
const SECRET_CHARS_MIN: usize = 32;

/// Knows the secrets that calls may be signed with.
pub struct Verifier {
    secrets: Vec<Webhook>,
}

/// What the service says to an executor.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Run an attempt.
    Execute(Box<ExecuteMessage>),
    /// An attempt is not wanted any more.
    Cancel(CancelMessage),
}

/// Why a call is not to be obeyed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A secret is not `whsec_` and the base64 of at least 24 bytes.
    #[error("the secret is not whsec_ and the base64 of at least 24 bytes")]
    Secret,
    /// A header of Standard Webhooks is missing, or is none.
    #[error("there is no valid header {0}")]
    Header(&'static str),
    /// It was said more than five minutes ago, or will be: a repetition, or a clock that is wrong.
    #[error("the call is more than five minutes away from now")]
    Time,
    /// It was signed with none of the secrets, or changed on its way.
    #[error("the signature is not valid")]
    Signature,
    /// It is signed, but is no message that this version knows.
    #[error("the message cannot be read")]
    Unreadable(#[source] serde_json::Error),
    /// It is signed, and of a type that this version does not know.
    #[error("messages of type {0:?} are not known")]
    Type(String),
}

impl Verifier {
    /// Takes calls that are signed with a secret, as it is registered.
    ///
    /// # Errors
    /// [`VerifyError::Secret`].
    pub fn new(secret: &str) -> Result<Self, VerifyError> {
        Ok(Self { secrets: vec![key(secret)?] })
    }

    /// Takes those that are signed with this one as well, while a secret is being replaced.
    ///
    /// # Errors
    /// [`VerifyError::Secret`].
    pub fn or(mut self, secret: &str) -> Result<Self, VerifyError> {
        self.secrets.push(key(secret)?);
        Ok(self)
    }

    /// The message of a call, if it is signed and is not older than five minutes. The body has to
    /// be given as it came; `header` looks a header up by its name.
    ///
    /// # Errors
    /// Each but [`VerifyError::Secret`]; answer with 401.
    pub fn verify<'h>(
        &self,
        body: &[u8],
        header: impl Fn(&str) -> Option<&'h str>,
    ) -> Result<Message, VerifyError> {
        let mut headers = HeaderMap::new();
        for name in [HEADER_WEBHOOK_ID, HEADER_WEBHOOK_TIMESTAMP, HEADER_WEBHOOK_SIGNATURE] {
            let value = header(name).and_then(|value| HeaderValue::from_str(value).ok());
            headers.insert(name, value.ok_or(VerifyError::Header(name))?);
        }
        // The library subtracts it from now, and would panic or wrap around at the lowest.
        let seconds = header(HEADER_WEBHOOK_TIMESTAMP).and_then(|at| at.parse::<i64>().ok());
        if seconds.is_some_and(|seconds| seconds < 0) {
            return Err(VerifyError::Time);
        }
        let mut refused = VerifyError::Signature;
        for secret in &self.secrets {
            match secret.verify(body, &headers) {
                Ok(()) => return read(body),
                Err(error) => refused = error.into(),
            }
        }
        Err(refused)
    }
}

fn key(secret: &str) -> Result<Webhook, VerifyError> {
    let encoded = secret.strip_prefix(SECRET_PREFIX).unwrap_or(secret);
    if encoded.trim_end_matches('=').len() < SECRET_CHARS_MIN {
        return Err(VerifyError::Secret);
    }
    Webhook::new(secret).map_err(Into::into)
}

impl From<WebhookError> for VerifyError {
    fn from(error: WebhookError) -> Self {
        match error {
            WebhookError::InvalidSecret(_) => Self::Secret,
            WebhookError::InvalidTimestamp => Self::Header(HEADER_WEBHOOK_TIMESTAMP),
            WebhookError::TimestampTooOldError | WebhookError::FutureTimestampError => Self::Time,
            WebhookError::InvalidHeader(name) | WebhookError::MissingHeader(name) => {
                Self::Header(name)
            }
            // What is not UTF-8 was not signed by the service.
            WebhookError::InvalidSignature | WebhookError::InvalidPayload => Self::Signature,
        }
    }
}

fn read(body: &[u8]) -> Result<Message, VerifyError> {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(borrow)]
        r#type: Cow<'a, str>,
    }
    let unreadable = VerifyError::Unreadable;
    let Typed { r#type } = serde_json::from_slice(body).map_err(unreadable)?;
    match &*r#type {
        "task.execute" => {
            let message = serde_json::from_slice(body).map_err(unreadable)?;
            Ok(Message::Execute(Box::new(message)))
        }
        "task.cancel" => Ok(Message::Cancel(serde_json::from_slice(body).map_err(unreadable)?)),
        other => Err(VerifyError::Type(other.to_owned())),
    }
}
