//! What all checks need: attempts, messages, and the executor's answers.

use std::time::Duration;

use anyhow::Context;
use nightshift_client::types::{ExecuteData, Json, Timestamp};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{
    TaskPaths,
    message::{Message, Seal},
    stand_in::StandIn,
};
use crate::{
    clock::{Clock, SystemClock, later},
    config::Config,
    domain::{
        attempt::Outcome,
        executor::{CallUrl, Secret},
        json::JsonText,
    },
    entropy::Entropy,
    executor::{
        Answer,
        http::{self, CANCEL_TIMEOUT, TASK_ID_HEADER},
    },
};

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// What an attempt may take unless its deadline is what is tried.
const ATTEMPT_TIMEOUT: Duration = Duration::from_mins(5);

/// Why a check did not come out well.
#[derive(Debug)]
pub(super) enum Flaw {
    Failed(String),
    /// The executor does not serve what the check needs.
    Skipped(String),
    /// It could not be tried at all.
    Broken(anyhow::Error),
}

impl From<anyhow::Error> for Flaw {
    fn from(error: anyhow::Error) -> Self {
        Self::Broken(error)
    }
}

pub(super) fn failed<T>(why: impl Into<String>) -> Result<T, Flaw> {
    Err(Flaw::Failed(why.into()))
}

pub(super) type Checked = Result<(), Flaw>;

/// The executor that is checked, and the service as it sees it.
pub(super) struct Suite {
    pub(super) url: CallUrl,
    pub(super) secret: Secret,
    pub(super) foreign_secret: Secret,
    pub(super) tasks: TaskPaths,
    pub(super) stand_in: StandIn,
    pub(super) entropy: Entropy,
    pub(super) client: Client,
}

/// An answer, and what the service makes of it.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) status: StatusCode,
    /// The task's id, as the executor sends it along.
    pub(super) task_id: Option<String>,
    pub(super) answer: Answer,
}

impl Heard {
    /// The return value.
    pub(super) fn value(self) -> Result<JsonText, Flaw> {
        let words = self.words();
        match self.answer {
            Answer::Ended(Outcome::Succeeded(value)) => Ok(value),
            Answer::Accepted | Answer::Ended(_) => failed(format!("was to succeed, and {words}")),
        }
    }

    /// What the service makes of it, as the rest of a sentence.
    pub(super) fn words(&self) -> String {
        let status = self.status.as_u16();
        match &self.answer {
            Answer::Accepted => format!("answers {status}: accepted"),
            Answer::Ended(Outcome::Succeeded(_)) => format!("answers {status}: success"),
            Answer::Ended(Outcome::Failed(failure)) => {
                let again = if failure.retryable { "to be tried again" } else { "for good" };
                format!("answers {status}: failed, {again}, with {:?}", failure.message)
            }
            Answer::Ended(_) => format!("answers {status}: not started"),
        }
    }

    pub(super) fn is_success(&self) -> bool {
        matches!(self.answer, Answer::Ended(Outcome::Succeeded(_)))
    }

    /// The task is one that the executor has.
    pub(super) fn served(self, task_path: &str) -> Result<Self, Flaw> {
        if self.status == StatusCode::NOT_FOUND {
            return Err(Flaw::Skipped(format!("the executor does not serve {task_path}")));
        }
        Ok(self)
    }
}

pub(super) fn now() -> jiff::Timestamp {
    SystemClock::default().now()
}

impl Suite {
    /// An attempt at a task, under a lease of its own.
    pub(super) fn attempt(&self, path: &str, args: &Value, kwargs: &Value) -> Attempt<'_> {
        self.attempt_within(ATTEMPT_TIMEOUT, path, args, kwargs)
    }

    pub(super) fn attempt_within(
        &self,
        limit: Duration,
        path: &str,
        args: &Value,
        kwargs: &Value,
    ) -> Attempt<'_> {
        let sent_at = now();
        let deadline: Timestamp = later(sent_at, limit).into();
        let token = self.entropy.uuid().simple().to_string();
        let data = ExecuteData {
            task_id: self.entropy.task_id(sent_at).0,
            task_path: path.to_owned(),
            args: json_text(args),
            kwargs: json_text(kwargs),
            attempt: 1,
            max_attempts: 3,
            queue_name: "default".to_owned(),
            priority: 0,
            labels: [("check".to_owned(), "executor".to_owned())].into(),
            enqueued_at: sent_at.into(),
            deadline,
            lease: self.stand_in.open(token, deadline),
        };
        Attempt { suite: self, data, begun: Instant::now() }
    }

    /// An attempt at one of the tasks that take a number of seconds.
    pub(super) fn lasting(&self, path: &str, lasts: Duration) -> Attempt<'_> {
        self.attempt(path, &json!([lasts.as_secs_f64()]), &json!({}))
    }

    /// Sends a message, and reads the answer as the service does.
    pub(super) async fn send(&self, message: Message, seal: Seal<'_>) -> Result<Heard, Flaw> {
        let request = self.client.post(self.url.as_url().clone());
        let request = message.seal(request, &self.secret, seal)?;
        let calling = async {
            let response = request.send().await?;
            let status = response.status();
            let task_id = response.headers().get(TASK_ID_HEADER);
            let task_id = task_id.map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
            let bytes_max = Config::default().return_value_bytes_max;
            let answer = http::read(response, bytes_max, now()).await;
            reqwest::Result::Ok(Heard { status, task_id, answer })
        };
        match timeout(ANSWER_TIMEOUT, calling).await {
            Ok(Ok(heard)) => Ok(heard),
            Ok(Err(error)) if error.is_connect() => {
                Err(anyhow::Error::from(error).context("the executor cannot be reached").into())
            }
            Ok(Err(error)) => failed(format!("broke the connection: {error}")),
            Err(_elapsed) => failed(format!("did not answer within {ANSWER_TIMEOUT:?}")),
        }
    }
}

/// Any JSON value can be written as JSON.
fn json_text(value: &Value) -> Json {
    Json::from_value(value).unwrap_or_else(|_| Json::null())
}

/// An attempt that the check plays.
pub(super) struct Attempt<'a> {
    suite: &'a Suite,
    pub(super) data: ExecuteData,
    pub(super) begun: Instant,
}

impl Attempt<'_> {
    pub(super) fn token(&self) -> &str {
        &self.data.lease.token
    }

    pub(super) fn message(&self) -> anyhow::Result<Message> {
        Message::execute(&self.data, now().into())
    }

    /// Sends it, signed as the seal says.
    pub(super) async fn send(&self, seal: Seal<'_>) -> Result<Heard, Flaw> {
        self.suite.send(self.message()?, seal).await
    }

    /// Sends it as the service does.
    pub(super) async fn execute(&self) -> Result<Heard, Flaw> {
        self.send(Seal::Right).await?.served(&self.data.task_path)
    }

    /// Tells the executor to stop; it has to answer, whatever it says.
    pub(super) async fn cancel(&self) -> Checked {
        let message = Message::cancel(&self.data, now().into())?;
        match timeout(CANCEL_TIMEOUT, self.suite.send(message, Seal::Right)).await {
            Ok(heard) => heard.map(drop),
            Err(_elapsed) => {
                failed(format!("did not answer task.cancel within {CANCEL_TIMEOUT:?}"))
            }
        }
    }
}

/// A secret that the executor does not know.
pub(super) fn unknown_secret(text: &str) -> anyhow::Result<Secret> {
    text.parse().ok().context("a made secret is one")
}
