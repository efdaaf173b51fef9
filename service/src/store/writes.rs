//! What the store can be told to do. Each is a command to the writer, answered after its commit.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::{
    ActivateAnswer, ActivateRequest, CancelAnswer, CancelRequest, ClaimRequest, DeleteAnswer,
    Ended, EnqueueAnswer, Error, FinishRequest, Installed, LeaseLost, NoSuchPlugin, Pruned,
    QueueChange, Registered, RenewRequest, Result, RetryAnswer, Store, UninstallAnswer,
    claim::Claimer,
    command::{Command, Pending},
    events,
    prune::PruneRequest,
    sweep::SweepRequest,
};
use crate::{
    clock::later,
    domain::{
        attempt::Outcome,
        event::EventRetention,
        executor::{ExecutorId, Registration},
        lease::{Claimed, Lease, LeaseToken, Renewal},
        names::{ExecutorName, PluginName},
        plugin::NewPlugin,
        queue::QueueSettings,
        retention::Retention,
        task::{NewTask, TaskId},
    },
};

/// How long whoever gave a command waits for a database that hangs. The command may still be
/// carried out.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

impl Store {
    /// Enqueues tasks, all or none; refused at once when the writer has too much to do.
    pub async fn enqueue(&self, tasks: Vec<NewTask>) -> Result<EnqueueAnswer> {
        let kib = tasks.iter().map(NewTask::bytes).sum::<usize>() / 1024 + 1;
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        let _room = self.room.try_acquire_many(kib).map_err(|_full| Error::Overloaded)?;
        self.ask(Command::Enqueue, tasks).await
    }

    /// Claims what may start now.
    pub async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>> {
        self.insist(Command::Claim, request).await
    }

    /// Claims for a worker; where there is nothing, waits until there is, or for `wait`.
    pub async fn lease(
        &self,
        executor: ExecutorId,
        request: ClaimRequest,
        wait: Duration,
    ) -> Result<Vec<Claimed>> {
        let until = later(self.clock.now(), wait);
        loop {
            let mut place = self.signals.idle(executor);
            let claimed = self.claim_or_give_back(request.clone()).await?;
            if !claimed.is_empty() || until <= self.clock.now() {
                return Ok(claimed);
            }
            tokio::select! {
                () = place.called() => {}
                () = self.clock.sleep(self.polls.idle) => {}
                () = self.clock.sleep_until(until) => {}
            }
        }
    }

    /// Claims; if whoever asked is gone by then, nobody has begun, so the tasks go back.
    async fn claim_or_give_back(&self, request: ClaimRequest) -> Result<Vec<Claimed>> {
        let (asker, answer) = oneshot::channel();
        let store = self.clone();
        tokio::spawn(async move {
            if let Err(Ok(unwanted)) = asker.send(store.claim(request).await) {
                for Claimed { lease, .. } in unwanted {
                    if let Err(error) = store.finish(lease, Outcome::HandedBack).await {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "a task has to wait until its lease runs out"
                        );
                    }
                }
            }
        });
        answer.await.unwrap_or(Err(Error::Closed))
    }

    pub async fn renew(
        &self,
        request: RenewRequest,
    ) -> Result<std::result::Result<Renewal, LeaseLost>> {
        self.insist(Command::Renew, request).await
    }

    /// The executor goes on by itself and reports with its token.
    pub async fn detach(&self, lease: Lease) -> Result<std::result::Result<(), LeaseLost>> {
        self.insist(Command::Detach, lease.into()).await
    }

    /// Ends an attempt. Exactly one end of each attempt is recorded.
    pub async fn finish(
        &self,
        lease: impl Into<LeaseToken>,
        outcome: Outcome,
    ) -> Result<std::result::Result<Ended, LeaseLost>> {
        self.insist(Command::Finish, FinishRequest { token: lease.into(), outcome }).await
    }

    pub async fn cancel(&self, request: CancelRequest) -> Result<CancelAnswer> {
        self.ask(Command::Cancel, request).await
    }

    pub async fn retry(&self, id: TaskId) -> Result<RetryAnswer> {
        self.ask(Command::Retry, id).await
    }

    pub async fn delete(&self, id: TaskId) -> Result<DeleteAnswer> {
        self.ask(Command::Delete, id).await
    }

    pub async fn put_executor(
        &self,
        registration: Registration,
    ) -> Result<std::result::Result<Registered, NoSuchPlugin>> {
        self.ask(Command::Put, registration).await
    }

    /// Says whether it was there.
    pub async fn remove_executor(&self, name: ExecutorName) -> Result<bool> {
        self.ask(Command::Remove, name).await
    }

    /// Stores a plugin's component and lets it run.
    pub async fn install_plugin(&self, new: NewPlugin) -> Result<Installed> {
        self.ask(Command::Install, new).await
    }

    /// Lets another stored version of a plugin run.
    pub async fn activate_plugin(&self, request: ActivateRequest) -> Result<ActivateAnswer> {
        self.ask(Command::Activate, request).await
    }

    /// Forgets a plugin with all its versions.
    pub async fn uninstall_plugin(&self, name: PluginName) -> Result<UninstallAnswer> {
        self.ask(Command::Uninstall, name).await
    }

    /// Changes a queue's settings and returns what holds now.
    pub async fn set_queue(&self, change: QueueChange) -> Result<QueueSettings> {
        self.ask(Command::SetQueue, change).await
    }

    /// Does what time has brought about; the reaper's part.
    pub async fn sweep(&self) -> Result<()> {
        self.insist(Command::Sweep, SweepRequest).await
    }

    /// Deletes some of what ended long ago.
    pub async fn prune(&self, retention: Retention) -> Result<Pruned> {
        self.insist(Command::Prune, PruneRequest { retention }).await
    }

    /// Deletes some of the events that are older or more than is to be kept, and says whether
    /// there are more of them.
    pub async fn trim_events(&self, retention: EventRetention) -> Result<bool> {
        let now = self.clock.now();
        let until =
            self.read(move |mut link| events::trim_until(&mut link, retention, now)).await?;
        match until {
            Some(until) => self.insist(Command::Trim, until).await,
            None => Ok(false),
        }
    }

    /// Whether the database takes writes: an empty batch is committed.
    pub async fn check(&self) -> Result<()> {
        let nothing = ClaimRequest { by: Claimer::Dispatcher, limit: 0 };
        self.ask(Command::Claim, nothing).await.map(drop)
    }

    /// How many commands wait for the writer.
    pub fn waiting_commands(&self) -> usize {
        self.commands.max_capacity() - self.commands.capacity()
    }

    /// Sends a command, unless the writer has too much to do.
    async fn ask<I, O>(&self, command: fn(Pending<I, O>) -> Command, input: I) -> Result<O> {
        let (waiter, answer) = oneshot::channel();
        self.commands.try_send(command(Pending::new(input, waiter))).map_err(
            |error| match error {
                mpsc::error::TrySendError::Full(_) => Error::Overloaded,
                mpsc::error::TrySendError::Closed(_) => Error::Closed,
            },
        )?;
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(answer) => answer.unwrap_or(Err(Error::Closed)),
            Err(_elapsed) => Err(Error::Unavailable("the database does not answer".into())),
        }
    }

    /// Sends a command that must not be turned away: heartbeats and ends of attempts have to
    /// get through just when there is too much to do.
    async fn insist<I, O>(&self, command: fn(Pending<I, O>) -> Command, input: I) -> Result<O> {
        let (waiter, answer) = oneshot::channel();
        if self.commands.send(command(Pending::new(input, waiter))).await.is_err() {
            return Err(Error::Closed);
        }
        answer.await.unwrap_or(Err(Error::Closed))
    }
}
