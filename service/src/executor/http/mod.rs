//! Calls executors over HTTP: one signed POST for each attempt, and one to cancel it.
//!
//! The important question about each call is whether the executor may have begun the work. If it
//! certainly did not, the outcome is *undelivered*: the task goes back to the queue and no attempt
//! is counted. If it may have, the attempt is *lost*, since the task may have run.

mod answer;
mod connections;
mod message;

use std::{error::Error as _, io, sync::Arc, time::Duration};

use reqwest::{Certificate, Client, RequestBuilder, Response};

pub(crate) use self::answer::read;
use self::{
    connections::{Chosen, Connections},
    message::Message,
};
use super::{Answer, CancelNotice, Work};
use crate::{
    domain::{
        Timestamp,
        attempt::{Failure, FailureKind, Outcome},
        executor::{CallUrl, Executor, StoredSecret, Target},
        lease::Assignment,
        reach::{Reach, Refusal},
    },
    network::Network,
    vault::Vault,
};

/// How long sending a cancel notice may take in all.
pub(crate) const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// The header in which an executor sends the task's id, if its registration promises that.
pub(crate) const TASK_ID_HEADER: &str = "nightshift-task-id";

/// The settings of the service that calls need.
#[derive(Clone)]
pub struct HttpSettings {
    /// The URL at which executors reach this service, without a slash at its end.
    pub public_url: String,
    /// Bytes that an answer's body may have; a longer one fails the attempt.
    pub response_bytes_max: usize,
    pub network: Arc<Network>,
    /// Certificate authorities that are trusted beside the machine's own.
    pub authorities: Vec<Certificate>,
    pub vault: Arc<Vault>,
}

/// Calls executors.
pub struct HttpExecutor {
    connections: Connections,
    settings: HttpSettings,
}

impl HttpExecutor {
    pub fn new(settings: HttpSettings) -> reqwest::Result<Self> {
        let connections = Connections::new(&settings.network, &settings.authorities)?;
        Ok(Self { connections, settings })
    }

    /// Prepares a call of the executor. `is_last` says that the task has no further attempt.
    fn request(
        &self,
        executor: &Executor,
        message: &Message<'_>,
        is_last: bool,
    ) -> Result<Call<'_>, Outcome> {
        let Target::Http { url, secret, previous_secret, .. } = &executor.registration.target
        else {
            return Err(rejected("only HTTP executors are called".to_owned()));
        };
        let place = place(url);
        // Literal addresses are checked here, host names by the resolver when it connects.
        self.settings.network.check(url).map_err(|refusal| refused(&refusal, &place))?;
        let name = executor.registration.name.as_str();
        let open = |secret: &StoredSecret| {
            let opened = self.settings.vault.open(name, secret);
            opened.map_err(|locked| undelivered(format!("the secret of {name} {locked}")))
        };
        let (secret, previous) = (open(secret)?, previous_secret.as_ref().map(open).transpose()?);
        let signed = message.sign(&secret, previous.as_ref()).map_err(Outcome::Failed)?;
        let chosen = self.connections.choose(&place, is_last);
        let request = signed.onto(chosen.client().post(url.as_url().clone()));
        Ok(Call { request, chosen, place })
    }
}

/// A client with the same settings as the service's own, for commands that try an executor out.
pub(crate) fn client() -> reqwest::Result<Client> {
    connections::client(&Arc::new(Network::new(Reach::default())), &[], usize::MAX)
}

/// A call that is ready to be made.
struct Call<'a> {
    request: RequestBuilder,
    chosen: Chosen<'a>,
    /// The origin of the URL, for messages. Path and query are left out, since they may hold
    /// secrets.
    place: String,
}

impl HttpExecutor {
    pub(super) async fn execute(&self, work: Work<'_>, now: Timestamp) -> Answer {
        let Work { executor, assignment, inputs, room, .. } = work;
        let message = Message::execute(assignment, &inputs, &self.settings.public_url, now);
        let is_last = assignment.attempt() >= assignment.max_attempts;
        let call = match self.request(executor, &message, is_last) {
            Ok(call) => call,
            Err(outcome) => return Answer::Ended(outcome),
        };
        // The request has its own copy of the inputs now, and may take long.
        drop(inputs);
        let response = match call.request.send().await {
            Ok(response) => response,
            // `is_connect` means that no connection was made, so none of the kept ones broke.
            Err(error) => {
                if !error.is_connect() {
                    call.chosen.broke();
                }
                return Answer::Ended(trouble(&error, &call.place));
            }
        };
        let ours = call.chosen.answered(&response);
        if let Some(outcome) = foreign(executor, assignment, &response, &call.place) {
            return Answer::Ended(outcome);
        }
        // Take the memory before the body is read. If the length is unknown, the largest is
        // assumed.
        let bytes_max = self.settings.response_bytes_max;
        let announced = response.content_length().and_then(|n| usize::try_from(n).ok());
        room.wait_for(announced.unwrap_or(bytes_max).min(bytes_max)).await;
        let answer = answer::read(response, bytes_max, now).await;
        call.chosen.free(ours);
        answer
    }

    pub(super) async fn cancel(&self, executor: &Executor, notice: CancelNotice, now: Timestamp) {
        let message = Message::cancel(notice, &self.settings.public_url, now);
        let Ok(Call { request, place, .. }) = self.request(executor, &message, true) else {
            return;
        };
        match request.timeout(CANCEL_TIMEOUT).send().await {
            Ok(response) => tracing::debug!(
                task.id = %notice.task_id,
                status = response.status().as_u16(),
                "an executor was told to stop"
            ),
            Err(error) => tracing::debug!(
                task.id = %notice.task_id,
                outcome = ?trouble(&error, &place),
                "an executor could not be told to stop"
            ),
        }
    }
}

/// Detects an answer that comes from another server at the executor's address. This is possible if
/// the executor's registration promises that it sends the task's id with each answer, since another
/// server does not know the id.
///
/// Then the work has not begun, unless the executor breaks its promise. To be safe in that case, a
/// task that may be tried only once is not delivered again.
fn foreign(
    executor: &Executor,
    assignment: &Assignment,
    response: &Response,
    place: &str,
) -> Option<Outcome> {
    let Target::Http { echoes_task_id: true, .. } = executor.registration.target else {
        return None;
    };
    let id = assignment.task.id;
    let echoed = response.headers().get(TASK_ID_HEADER).and_then(|text| text.to_str().ok());
    if !response.status().is_success() || echoed.and_then(|id| id.parse().ok()) == Some(id.0) {
        return None;
    }
    let status = response.status().as_u16();
    let reason = format!(
        "{place} answered {status} without the task's id in the header {TASK_ID_HEADER}, so that \
         it is not this executor's answer"
    );
    if assignment.max_attempts > 1 {
        return Some(undelivered(reason));
    }
    Some(Outcome::Failed(Failure::new(FailureKind::Lost, reason)))
}

fn place(url: &CallUrl) -> String {
    url.as_url().origin().ascii_serialization()
}

/// The outcome of a call that got no complete answer. It depends on whether the work may have
/// begun.
fn trouble(error: &reqwest::Error, place: &str) -> Outcome {
    if let Some(refusal) = find_cause::<Refusal>(error) {
        return refused(refusal, place);
    }
    let cause = root_cause(error);
    if error.is_connect() {
        return undelivered(format!("{place} cannot be reached: {cause}"));
    }
    if error.is_builder() {
        return rejected(format!("{place} cannot be called: {cause}"));
    }
    let message =
        format!("the connection to {place} broke before the answer was complete: {cause}");
    Outcome::Failed(Failure::new(FailureKind::Lost, message))
}

/// An address that is never called fails the task for good. If it is only not allowed, the task
/// waits, because the setting may change.
fn refused(refusal: &Refusal, place: &str) -> Outcome {
    match refusal {
        Refusal::Never(_) => rejected(format!("{place} is never called: {refusal}")),
        Refusal::NotAllowed(_) => undelivered(format!("{place} is not called: {refusal}")),
    }
}

fn rejected(message: String) -> Outcome {
    Outcome::Failed(Failure::new(FailureKind::Rejected, message))
}

fn undelivered(reason: String) -> Outcome {
    Outcome::Undelivered { reason, retry_after: None }
}

fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Finds the first cause of type `E` in the chain of errors. An [`io::Error`] hides the error
/// inside of it from `source`, so that one is examined, too.
fn find_cause<E: std::error::Error + 'static>(error: &reqwest::Error) -> Option<&E> {
    let mut cause = error.source();
    while let Some(current) = cause {
        let inside = current.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let found = current.downcast_ref::<E>().or_else(|| inside?.downcast_ref::<E>());
        if found.is_some() {
            return found;
        }
        cause = current.source();
    }
    None
}
