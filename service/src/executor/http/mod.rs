//! Executors that the service calls over HTTP.

mod answer;
mod message;

use std::{error::Error as _, io, sync::Arc, time::Duration};

use reqwest::{Certificate, Client, RequestBuilder, Response, redirect};

pub(crate) use self::answer::read;
use self::message::Message;
use super::{Answer, AnswerRoom, CancelNotice};
use crate::{
    domain::{
        Timestamp,
        attempt::{Failure, FailureKind, Outcome},
        executor::{CallUrl, Executor, StoredSecret, Target},
        lease::{Assignment, Inputs},
        reach::{Reach, Refusal},
    },
    network::Network,
    vault::Vault,
};

/// How long connecting may take, name resolution and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept: shorter than common servers do (2 s and more), so that
/// they do not close one just as a task goes out on it.
const IDLE_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How long telling an executor to stop may take in all.
pub(crate) const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// What the caller has to know.
#[derive(Clone)]
pub struct HttpSettings {
    /// How executors reach this service, without a slash at the end.
    pub public_url: String,
    /// Bytes of an answer's body; a longer one fails the attempt.
    pub response_bytes_max: usize,
    pub network: Arc<Network>,
    /// Whose certificates are trusted beside those that the machine trusts.
    pub authorities: Vec<Certificate>,
    pub vault: Arc<Vault>,
}

/// Calls executors. One pool of kept-alive connections serves them all.
pub struct HttpExecutor {
    client: Client,
    settings: HttpSettings,
}

impl HttpExecutor {
    pub fn new(settings: HttpSettings) -> reqwest::Result<Self> {
        let client = calling_client(&settings.network, &settings.authorities)?;
        Ok(Self { client, settings })
    }

    fn request(&self, executor: &Executor, message: &Message<'_>) -> Result<Call, Outcome> {
        let Target::Http { url, secret, previous_secret } = &executor.registration.target else {
            return Err(rejected("only HTTP executors are called".to_owned()));
        };
        let place = place(url);
        // A name is looked at where it is looked up.
        self.settings.network.check(url).map_err(|refusal| refused(&refusal, &place))?;
        let name = executor.registration.name.as_str();
        let open = |secret: &StoredSecret| {
            let opened = self.settings.vault.open(name, secret);
            opened.map_err(|locked| undelivered(format!("the secret of {name} {locked}")))
        };
        let (secret, previous) = (open(secret)?, previous_secret.as_ref().map(open).transpose()?);
        let signed = message.sign(&secret, previous.as_ref()).map_err(Outcome::Failed)?;
        let request = signed.onto(self.client.post(url.as_url().clone()));
        Ok(Call { request, place })
    }
}

/// A client that calls executors as the service does, for whoever plays the service.
pub(crate) fn client() -> reqwest::Result<Client> {
    calling_client(&Arc::new(Network::new(Reach::default())), &[])
}

fn calling_client(network: &Arc<Network>, authorities: &[Certificate]) -> reqwest::Result<Client> {
    let client = Client::builder()
        .user_agent(concat!("nightshift/", env!("CARGO_PKG_VERSION")))
        // A redirect would carry the task and its signature to a host that nobody registered.
        .redirect(redirect::Policy::none())
        // A proxy from the environment would see every task.
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .dns_resolver(Arc::clone(network));
    client.tls_certs_merge(authorities.iter().cloned()).build()
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
        inputs: Inputs,
        room: &AnswerRoom,
        now: Timestamp,
    ) -> Answer {
        let message = Message::execute(assignment, &inputs, &self.settings.public_url, now);
        let call = match self.request(executor, &message) {
            Ok(call) => call,
            Err(outcome) => return Answer::Ended(outcome),
        };
        // They are in the call now, and it may take long.
        drop(inputs);
        match call.send().await {
            Ok(response) => {
                let bytes_max = self.settings.response_bytes_max;
                let announced = response.content_length().and_then(|n| usize::try_from(n).ok());
                room.wait_for(announced.unwrap_or(bytes_max).min(bytes_max)).await;
                answer::read(response, bytes_max, now).await
            }
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

/// What is never called fails for good. What is only not allowed yet waits: the setting may change.
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
