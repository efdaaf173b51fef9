//! One attempt at a task: runs its function, and reports how it ended.

use std::{any::Any, pin::pin, sync::Arc, time::Duration};

use backon::BackoffBuilder;
use nightshift_openapi::{FinishRequest, Json, Lease};
use tokio::{
    runtime::Handle,
    task::JoinError,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Context, Failure, Stop,
    functions::{Functions, Running},
    heart::{Heart, lasts},
    notes::Notes,
};
use crate::{Client, retry::backoff};

/// How long a worker that stops reports the end of an attempt again after its lease has run out by
/// our clock: the service may have been away, and have given its leases more time.
const REPORT_LONGER: Duration = Duration::from_secs(30);

/// What all attempts of a worker share.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) functions: Functions,
    /// Runs the functions, so that they cannot hold up heartbeats.
    pub(super) runtime: Handle,
    pub(super) stop: Stop,
    pub(super) stop_within: Duration,
}

pub(super) struct Attempt {
    shared: Arc<Shared>,
    lease: Arc<Lease>,
    heart: Heart,
    notes: Arc<Notes>,
}

/// What is to be told to the service.
enum End {
    Finish(FinishRequest),
    Release,
    Nothing,
}

/// How a function ended.
enum Ended {
    Returned(Result<Json, Failure>),
    Panicked(Box<dyn Any + Send>),
    /// It was dropped before its end, by a worker that stops.
    Dropped,
}

impl Attempt {
    pub(super) fn new(shared: Arc<Shared>, lease: Lease) -> Self {
        let notes = Arc::new(Notes::default());
        let heart = Heart::new(shared.client.clone(), &lease, Arc::clone(&notes));
        Self { shared, lease: Arc::new(lease), heart, notes }
    }

    pub(super) async fn run(mut self) {
        let (id, path) = (self.lease.task.id, self.lease.task.task_path.clone());
        tracing::info!(task.id = %id, task.path = path, attempt = self.lease.attempt, "started");
        let started = Instant::now();
        let end = self.execute().await;
        let seconds = started.elapsed().as_secs_f64();
        tracing::info!(task.id = %id, task.path = path, seconds, "{}", end.told());
        self.report(end).await;
    }

    /// Hands the task back without having begun it.
    pub(super) async fn release(self) {
        self.report(End::Release).await;
    }

    async fn execute(&mut self) -> End {
        let task_path = &self.lease.task.task_path;
        let Some(function) = self.shared.functions.find(task_path) else {
            let message = format!("this worker has no function for {task_path}");
            return End::failed(Failure::new("nightshift.NoFunction", message));
        };
        let (stop, done) = (CancellationToken::new(), CancellationToken::new());
        let context = Context {
            lease: Arc::clone(&self.lease),
            notes: Arc::clone(&self.notes),
            stop: stop.clone(),
            deadline: Instant::now() + lasts(&self.lease, self.lease.deadline),
        };
        let running = self.shared.run(function(context), &stop);
        let ended = {
            let mut beating = pin!(self.heart.beat(&done, &stop));
            tokio::select! {
                ended = running => {
                    done.cancel();
                    beating.await;
                    ended
                }
                // Somebody else may have begun already.
                () = &mut beating => return End::Nothing,
            }
        };
        self.end_of(ended)
    }

    fn end_of(&self, ended: Ended) -> End {
        if self.heart.cancel_requested() {
            return End::Finish(FinishRequest { cancelled: true, ..FinishRequest::default() });
        }
        let failure = match ended {
            Ended::Returned(Ok(value)) => return End::succeeded(value),
            Ended::Returned(Err(failure)) => Some(failure),
            Ended::Panicked(payload) => Some(panicked(payload.as_ref())),
            Ended::Dropped => None,
        };
        match failure.filter(|_| !self.shared.stop.is_now()) {
            Some(failure) => End::failed(failure),
            None if self.lease.max_attempts > 1 => End::Release,
            // Nobody knows how far it came, so what may be tried only once is not tried again.
            None => End::failed(Failure::new("nightshift.WorkerStopped", "the worker was stopped")),
        }
    }

    /// Says how it ended until the service has heard it, or does not want to know any more.
    async fn report(&self, end: End) {
        let Shared { client, stop, .. } = &*self.shared;
        let token = &self.lease.token;
        let mut pauses = backoff().build();
        loop {
            let reported = match &end {
                End::Finish(request) => client.finish_lease(token, request).await.map(drop),
                End::Release => client.release_lease(token).await,
                End::Nothing => return,
            };
            let Err(error) = reported else { return };
            let given_up =
                stop.is_draining() && Instant::now() > self.heart.expires() + REPORT_LONGER;
            if given_up || !error.is_transient() {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    task.id = %self.lease.task.id,
                    "the end of an attempt could not be reported"
                );
                return;
            }
            let asked = error.retry_after().unwrap_or_default();
            let longest = self.heart.pause_max();
            sleep(asked + pauses.next().unwrap_or(longest).min(longest)).await;
        }
    }
}

impl Shared {
    /// Runs a function to its end, or until it has not stopped in time.
    async fn run(&self, function: Running, stop: &CancellationToken) -> Ended {
        let mut running = AbortOnDropHandle::new(self.runtime.spawn(function));
        tokio::select! {
            ended = &mut running => return ended.into(),
            () = self.stop.now() => stop.cancel(),
        }
        timeout(self.stop_within, running).await.map_or(Ended::Dropped, Into::into)
    }
}

impl From<Result<Result<Json, Failure>, JoinError>> for Ended {
    fn from(joined: Result<Result<Json, Failure>, JoinError>) -> Self {
        match joined {
            Ok(returned) => Self::Returned(returned),
            // Else its runtime is about to end.
            Err(error) => error.try_into_panic().map_or(Self::Dropped, Self::Panicked),
        }
    }
}

fn panicked(payload: &(dyn Any + Send)) -> Failure {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    Failure::new("panic", text.unwrap_or("the function panicked"))
}

impl End {
    fn succeeded(value: Json) -> Self {
        Self::Finish(FinishRequest { return_value: Some(value), ..FinishRequest::default() })
    }

    fn failed(failure: Failure) -> Self {
        let error = Some(failure.into_report());
        Self::Finish(FinishRequest { error, ..FinishRequest::default() })
    }

    fn told(&self) -> String {
        match self {
            Self::Finish(FinishRequest { error: Some(error), .. }) => {
                format!("failed: {}", error.message.as_deref().unwrap_or_default())
            }
            Self::Finish(FinishRequest { cancelled: true, .. }) => "cancelled".to_owned(),
            Self::Finish(_) => "succeeded".to_owned(),
            Self::Release => "handed back".to_owned(),
            Self::Nothing => "stopped, since its lease is gone".to_owned(),
        }
    }
}
