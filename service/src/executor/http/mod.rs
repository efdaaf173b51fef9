//! Executors that the service calls over HTTP.

mod answer;
mod message;
mod resolver;

use std::{error::Error as _, io, sync::Arc, time::Duration};

use reqwest::{Client, RequestBuilder, Response, dns::Resolve, redirect};

pub(crate) use self::answer::read;
use self::{
    message::Message,
    resolver::{Checked, RefusedAddress, SystemResolver},
};
use super::{Answer, CancelNotice};
use crate::domain::{
    Timestamp,
    attempt::{Failure, FailureKind, Outcome},
    executor::{CallUrl, Executor, Target},
    lease::Assignment,
};

/// How long connecting may take, name resolution and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept: shorter than common servers do (2 s and more), so that
/// they do not close one just as a task goes out on it.
const IDLE_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How long telling an executor to stop may take in all.
pub(crate) const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// What the caller has to know.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// How executors reach this service, without a slash at the end.
    pub public_url: String,
    /// Bytes of an answer's body; a longer one fails the attempt.
    pub response_bytes_max: usize,
}

/// Calls executors. One pool of kept-alive connections serves them all.
pub struct HttpExecutor {
    client: Client,
    settings: HttpSettings,
}

impl HttpExecutor {
    pub fn new(settings: HttpSettings) -> reqwest::Result<Self> {
        Self::with_resolver(settings, Arc::new(SystemResolver))
    }

    /// Like [`HttpExecutor::new`], with names looked up elsewhere.
    pub fn with_resolver(
        settings: HttpSettings,
        resolver: Arc<dyn Resolve>,
    ) -> reqwest::Result<Self> {
        Ok(Self { client: calling_client(resolver)?, settings })
    }

    fn request(&self, executor: &Executor, message: &Message<'_>) -> Result<Call, Failure> {
        let Target::Http { url, secret, previous_secret } = &executor.registration.target else {
            return Err(Failure::new(FailureKind::Rejected, "only HTTP executors are called"));
        };
        let signed = message.sign(secret, previous_secret.as_ref())?;
        let request = signed.onto(self.client.post(url.as_url().clone()));
        Ok(Call { request, place: place(url) })
    }
}

/// A client that calls executors as the service does, for whoever plays the service.
pub(crate) fn client() -> reqwest::Result<Client> {
    calling_client(Arc::new(SystemResolver))
}

fn calling_client(resolver: Arc<dyn Resolve>) -> reqwest::Result<Client> {
    Client::builder()
        .user_agent(concat!("nightshift/", env!("CARGO_PKG_VERSION")))
        // A redirect would carry the task and its signature to a host that nobody registered.
        .redirect(redirect::Policy::none())
        // A proxy from the environment would see every task.
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .dns_resolver(Arc::new(Checked(resolver)))
        .build()
}

/// A call that is ready to be made.
struct Call {
    request: RequestBuilder,
    /// The host called, for messages; the rest of the address may hold what is nobody's business.
    place: String,
}

impl Call {
    async fn send(self) -> Result<Response, Outcome> {
        self.request.send().await.map_err(|error| trouble(&error, &self.place))
    }
}

impl HttpExecutor {
    pub(super) async fn execute(
        &self,
        executor: &Executor,
        assignment: &Assignment,
        now: Timestamp,
    ) -> Answer {
        let message = Message::execute(assignment, &self.settings.public_url, now);
        let call = match self.request(executor, &message) {
            Ok(call) => call,
            Err(failure) => return Answer::Ended(Outcome::Failed(failure)),
        };
        match call.send().await {
            Ok(response) => answer::read(response, self.settings.response_bytes_max, now).await,
            Err(outcome) => Answer::Ended(outcome),
        }
    }

    pub(super) async fn cancel(&self, executor: &Executor, notice: CancelNotice, now: Timestamp) {
        let message = Message::cancel(notice, &self.settings.public_url, now);
        let Ok(Call { request, place }) = self.request(executor, &message) else {
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

fn place(url: &CallUrl) -> String {
    url.as_url().origin().ascii_serialization()
}

/// What a call without an answer means: whether the work may have begun.
fn trouble(error: &reqwest::Error, place: &str) -> Outcome {
    if let Some(refused) = find_cause::<RefusedAddress>(error) {
        let message = format!("{place} is never called: {refused}");
        return Outcome::Failed(Failure::new(FailureKind::Rejected, message));
    }
    let cause = root_cause(error);
    if error.is_connect() {
        let reason = format!("{place} cannot be reached: {cause}");
        return Outcome::Undelivered { reason, retry_after: None };
    }
    if error.is_builder() {
        let message = format!("{place} cannot be called: {cause}");
        return Outcome::Failed(Failure::new(FailureKind::Rejected, message));
    }
    let message =
        format!("the connection to {place} broke before the answer was complete: {cause}");
    Outcome::Failed(Failure::new(FailureKind::Lost, message))
}

fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// The first `E` in the chain of causes, also inside of an [`io::Error`], which hides its own.
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
