//! The messages that the service posts to executors, built and signed as the Standard Webhooks
//! specification demands.

use std::collections::BTreeMap;

use reqwest::{RequestBuilder, header::CONTENT_TYPE};
use serde::Serialize;
use serde_json::value::RawValue;
use standardwebhooks::{
    HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook,
};

use super::super::CancelNotice;
use crate::domain::{
    Timestamp,
    attempt::{Failure, FailureKind},
    executor::Secret,
    json::JsonText,
    lease::{Assignment, Inputs, LeaseToken},
};

/// A message before it is signed.
pub(super) struct Message<'a> {
    /// The same whenever the message is repeated, so that a receiver can recognise the repetition.
    id: String,
    now: Timestamp,
    body: Body<'a>,
    /// Bytes of the body, about.
    bytes: usize,
    traceparent: Option<&'a str>,
}

/// Bytes of a body beside args and kwargs, in most cases.
const ENVELOPE_BYTES: usize = 2 * 1024;

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Execute(Execute<'a>),
    Cancel(Cancel),
}

#[derive(Serialize)]
struct Execute<'a> {
    task_id: String,
    task_path: &'a str,
    #[serde(serialize_with = "raw")]
    args: &'a JsonText,
    #[serde(serialize_with = "raw")]
    kwargs: &'a JsonText,
    attempt: u32,
    max_attempts: u32,
    queue_name: &'a str,
    priority: i16,
    labels: &'a BTreeMap<String, String>,
    enqueued_at: String,
    deadline: String,
    lease: Lease,
}

#[derive(Serialize)]
struct Cancel {
    task_id: String,
    attempt: u32,
    lease: Lease,
}

#[derive(Serialize)]
struct Lease {
    token: String,
    url: String,
}

impl Lease {
    fn new(token: LeaseToken, public_url: &str) -> Self {
        Self { token: token.to_string(), url: format!("{public_url}/leases/{token}") }
    }
}

/// Writes args and kwargs byte for byte as they were received.
fn raw<S: serde::Serializer>(text: &JsonText, serializer: S) -> Result<S::Ok, S::Error> {
    let value: &RawValue =
        serde_json::from_str(text.as_str()).map_err(serde::ser::Error::custom)?;
    value.serialize(serializer)
}

fn rfc3339(instant: Timestamp) -> String {
    format!("{instant:.6}")
}

impl<'a> Message<'a> {
    pub(super) fn execute(
        assignment: &'a Assignment,
        inputs: &'a Inputs,
        public_url: &str,
        now: Timestamp,
    ) -> Self {
        let task = &assignment.task;
        let data = Execute {
            task_id: task.id.to_string(),
            task_path: task.content.task_path.as_str(),
            args: &inputs.args,
            kwargs: &inputs.kwargs,
            attempt: assignment.attempt(),
            max_attempts: assignment.max_attempts,
            queue_name: task.content.queue_name.as_str(),
            priority: task.content.priority,
            labels: &task.content.labels,
            enqueued_at: rfc3339(task.times.enqueued_at),
            deadline: rfc3339(assignment.deadline),
            lease: Lease::new(assignment.token, public_url),
        };
        Self {
            id: format!("{}.{}", task.id, assignment.attempt()),
            now,
            body: Body {
                r#type: "task.execute",
                timestamp: rfc3339(now),
                data: Data::Execute(data),
            },
            bytes: inputs.bytes() + ENVELOPE_BYTES,
            traceparent: assignment.traceparent.as_deref(),
        }
    }

    pub(super) fn cancel(notice: CancelNotice, public_url: &str, now: Timestamp) -> Self {
        let CancelNotice { task_id, token, attempt } = notice;
        let data =
            Cancel { task_id: task_id.to_string(), attempt, lease: Lease::new(token, public_url) };
        Self {
            id: format!("{task_id}.{attempt}.cancel"),
            now,
            body: Body { r#type: "task.cancel", timestamp: rfc3339(now), data: Data::Cancel(data) },
            bytes: ENVELOPE_BYTES,
            traceparent: None,
        }
    }

    /// Signs the message with the secret, and also with the previous secret while the secret is
    /// being replaced, so that the receiver accepts it before and after its own change.
    pub(super) fn sign(
        &self,
        secret: &Secret,
        previous: Option<&Secret>,
    ) -> Result<Signed<'a>, Failure> {
        let rejected = |message: &str| Failure::new(FailureKind::Rejected, message);
        // Allocate the whole body at once: a buffer that grows needs twice the memory while it is
        // copied.
        let mut body = Vec::with_capacity(self.bytes);
        serde_json::to_writer(&mut body, &self.body)
            .map_err(|_error| rejected("the task cannot be written as JSON"))?;
        let timestamp = self.now.as_second();
        let signatures: Vec<String> = std::iter::once(secret)
            .chain(previous)
            .map(|secret| Webhook::new(secret.expose())?.sign(&self.id, timestamp, &body))
            .collect::<Result<_, _>>()
            .map_err(|_error| rejected("the executor's secret cannot sign"))?;
        Ok(Signed {
            id: self.id.clone(),
            timestamp,
            signature: signatures.join(" "),
            traceparent: self.traceparent,
            body,
        })
    }
}

/// A signed message, ready to be sent.
pub(super) struct Signed<'a> {
    id: String,
    timestamp: i64,
    signature: String,
    traceparent: Option<&'a str>,
    body: Vec<u8>,
}

impl Signed<'_> {
    /// Adds headers and body to the request.
    pub(super) fn onto(self, request: RequestBuilder) -> RequestBuilder {
        let mut request = request
            .header(CONTENT_TYPE, "application/json")
            .header(HEADER_WEBHOOK_ID, self.id)
            .header(HEADER_WEBHOOK_TIMESTAMP, self.timestamp)
            .header(HEADER_WEBHOOK_SIGNATURE, self.signature);
        if let Some(traceparent) = self.traceparent {
            request = request.header("traceparent", traceparent);
        }
        request.body(self.body)
    }
}
