//! Takes tasks as long as there is room, until told to stop or enough were taken.

use std::{convert::Infallible, future::pending, sync::Arc};

use backon::{BackoffBuilder, ExponentialBackoff};
use tokio::{task::JoinSet, time::sleep};

use super::{
    Worker,
    attempt::{Attempt, Shared},
};
use crate::{
    Error, Result,
    retry::{PAUSE_MAX, backoff},
};

/// How long one request waits for tasks.
const WAIT_SECONDS: i64 = 20;
/// Tasks that the service gives at once.
const LEASES_MAX: u64 = 1_000;

/// Works until there is nothing left to do.
pub(super) async fn work(worker: Worker, shared: Arc<Shared>) -> Result<()> {
    let mut attempts = JoinSet::new();
    let taken = take(&worker, &shared, &mut attempts).await;
    if taken.is_err() {
        shared.stop.drain();
    }
    let overdue = async {
        shared.stop.draining().await;
        sleep(worker.grace).await;
        shared.stop.at_once();
        pending::<Infallible>().await
    };
    tokio::select! {
        () = async { while attempts.join_next().await.is_some() {} } => {}
        never = overdue => match never {},
    }
    tracing::info!("stopped");
    taken
}

async fn take(worker: &Worker, shared: &Arc<Shared>, attempts: &mut JoinSet<()>) -> Result<()> {
    let (client, stop, executor) = (&shared.client, &shared.stop, &worker.executor);
    let mut away = Away::default();
    if let Some(request) = &worker.registration {
        let put = async || client.put_executor(executor, request).await;
        away.until_answered(shared, put).await?;
    }
    let mut request = worker.request.clone();
    request.wait_seconds = Some(WAIT_SECONDS);
    tracing::info!(executor, worker.id = request.worker_id, "taking tasks");
    let mut left = worker.tasks_max;
    while left > 0 && !stop.is_draining() {
        while attempts.try_join_next().is_some() {}
        let running = u32::try_from(attempts.len()).unwrap_or(u32::MAX);
        let room = u64::from(worker.concurrency.saturating_sub(running)).min(left);
        if room == 0 {
            tokio::select! {
                _ = attempts.join_next() => {}
                () = stop.draining() => {}
            }
            continue;
        }
        request.max_tasks = i64::try_from(room.min(LEASES_MAX)).ok();
        let lease = async || client.lease_tasks(executor, &request).await;
        let Some(list) = away.until_answered(shared, lease).await? else {
            break;
        };
        for lease in list.leases {
            left = left.saturating_sub(1);
            let attempt = Attempt::new(Arc::clone(shared), lease);
            if stop.is_draining() {
                attempts.spawn(attempt.release());
            } else {
                attempts.spawn(attempt.run());
            }
        }
    }
    Ok(())
}

/// A service that may be away for a while.
#[derive(Default)]
struct Away(Option<ExponentialBackoff>);

impl Away {
    /// Asks until there is an answer; `None` if the worker is to stop before.
    async fn until_answered<T>(
        &mut self,
        shared: &Shared,
        ask: impl AsyncFn() -> Result<T>,
    ) -> Result<Option<T>> {
        loop {
            let answered = tokio::select! {
                // What was handed out must not be lost.
                biased;
                answered = ask() => answered,
                () = shared.stop.draining() => return Ok(None),
            };
            match answered {
                Ok(answer) => {
                    if self.0.take().is_some() {
                        tracing::info!("the service answers again");
                    }
                    return Ok(Some(answer));
                }
                Err(error) if error.is_transient() => {
                    tokio::select! {
                        () = sleep(self.pause(&error)) => {}
                        () = shared.stop.draining() => return Ok(None),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn pause(&mut self, error: &Error) -> std::time::Duration {
        if self.0.is_none() {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "the service gives no tasks; asking on"
            );
        }
        let pause = self.0.get_or_insert_with(|| backoff().build()).next().unwrap_or(PAUSE_MAX);
        pause + error.retry_after().unwrap_or_default()
    }
}
