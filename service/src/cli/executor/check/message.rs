//! Signed messages, and such that are signed in every wrong way.

use nightshift_client::types::{
    CancelData, CancelMessage, CancelType, ExecuteData, ExecuteMessage, ExecuteType, Timestamp,
};
use reqwest::{RequestBuilder, header::CONTENT_TYPE};
use serde::Serialize;
use serde_json::{Value, json};
use standardwebhooks::{
    HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook,
};

use crate::domain::executor::Secret;

/// A message before it is signed.
#[derive(Clone, Debug)]
pub(super) struct Message {
    id: String,
    sent_at: i64,
    body: Vec<u8>,
}

/// What a message is signed with, and how the signature is spoilt.
#[derive(Clone, Copy, Debug)]
pub(super) enum Seal<'a> {
    Right,
    Missing,
    /// By another secret.
    Foreign(&'a Secret),
    /// The body was changed afterwards.
    OtherBody,
    /// The id was changed afterwards.
    OtherId,
    /// Right, but signed so many seconds from now.
    At(i64),
    /// Of another secret and, behind it, of the right one.
    Second(&'a Secret),
}

impl Message {
    pub(super) fn execute(data: &ExecuteData, now: Timestamp) -> anyhow::Result<Self> {
        let message = ExecuteMessage {
            message_type: ExecuteType::Execute,
            timestamp: now,
            data: data.clone(),
        };
        Self::new(format!("{}.{}", data.task_id, data.attempt), now, &message)
    }

    pub(super) fn cancel(data: &ExecuteData, now: Timestamp) -> anyhow::Result<Self> {
        let message = CancelMessage {
            message_type: CancelType::Cancel,
            timestamp: now,
            data: CancelData {
                task_id: data.task_id,
                attempt: data.attempt,
                lease: data.lease.clone(),
            },
        };
        Self::new(format!("{}.{}.cancel", data.task_id, data.attempt), now, &message)
    }

    fn new(id: String, now: Timestamp, message: &impl Serialize) -> anyhow::Result<Self> {
        let sent_at = jiff::Timestamp::from(now).as_second();
        Ok(Self { id, sent_at, body: serde_json::to_vec(message)? })
    }

    /// The same from a service that knows more than this one.
    pub(super) fn with_unknown_fields(mut self) -> anyhow::Result<Self> {
        let mut message: Value = serde_json::from_slice(&self.body)?;
        for pointer in ["", "/data", "/data/lease"] {
            if let Some(Value::Object(members)) = message.pointer_mut(pointer) {
                members.insert("of_a_later_version".to_owned(), json!({"of": ["any", "kind", 1]}));
            }
        }
        self.body = serde_json::to_vec(&message)?;
        Ok(self)
    }

    /// Puts the message onto a request.
    pub(super) fn seal(
        mut self,
        request: RequestBuilder,
        secret: &Secret,
        seal: Seal<'_>,
    ) -> anyhow::Result<RequestBuilder> {
        if let Seal::At(seconds) = seal {
            self.sent_at += seconds;
        }
        let signature = match seal {
            Seal::Missing => None,
            Seal::Foreign(other) => Some(self.sign(other)?),
            Seal::Second(other) => Some(format!("{} {}", self.sign(other)?, self.sign(secret)?)),
            Seal::Right | Seal::OtherBody | Seal::OtherId | Seal::At(_) => Some(self.sign(secret)?),
        };
        match seal {
            // White space: the same message by its meaning.
            Seal::OtherBody => self.body.push(b' '),
            Seal::OtherId => self.id.push('0'),
            Seal::Right | Seal::Missing | Seal::Foreign(_) | Seal::At(_) | Seal::Second(_) => {}
        }
        let mut request = request.header(CONTENT_TYPE, "application/json");
        if let Some(signature) = signature {
            request = request
                .header(HEADER_WEBHOOK_ID, self.id)
                .header(HEADER_WEBHOOK_TIMESTAMP, self.sent_at)
                .header(HEADER_WEBHOOK_SIGNATURE, signature);
        }
        Ok(request.body(self.body))
    }

    fn sign(&self, secret: &Secret) -> anyhow::Result<String> {
        Ok(Webhook::new(secret.expose())?.sign(&self.id, self.sent_at, &self.body)?)
    }
}
