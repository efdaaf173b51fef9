//! The commands that the rest of the service gives to the store. Each method sends one command to
//! the writer and returns its answer after the commit.

use std::{mem, time::Duration};

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    ActivateAnswer, ActivateRequest, CancelAnswer, CancelRequest, ClaimRequest, Claims,
    CreateTokenAnswer, CreateTokenRequest, DeleteAnswer, Ended, EnqueueAnswer, Error,
    ExecutorChange, FinishRequest, Installed, LeaseLost, NotRegistered, Note, Pruned, QueueChange,
    Registered, Result, RetryAnswer, RevokeTokenAnswer, RevokeTokenRequest, Store, UninstallAnswer,
    asks::Ask,
    audit,
    claim::Claimer,
    command::{Command, Pending},
    events,
    prune::PruneRequest,
    queues::SetAnswer,
    rows::micros,
    sweep::SweepRequest,
};
use crate::{
    domain::{
        Timestamp,
        attempt::Outcome,
        event::EventRetention,
        executor::{Executor, ExecutorId, Registration},
        lease::{Claimed, Lease, LeaseToken},
        names::{ExecutorName, PluginName, TokenName},
        places::PluginRoom,
        plugin::NewPlugin,
        retention::Retention,
        task::{NewTask, TaskId},
    },
    memory::Held,
};

/// How long a caller waits for an answer while the database hangs. The command may still be carried
/// out later.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a caller that found no room in memory waits before it asks again.
pub(super) const ROOM_LOOK: Duration = Duration::from_millis(250);

/// A worker whose `wait` is over looks again while waiting tasks are still being routed to newly
/// registered executors: up to 100 times, 50 ms apart, so for five seconds.
const ROUTING_LOOKS_MAX: u32 = 100;
const ROUTING_LOOK: Duration = Duration::from_millis(50);

impl Store {
    /// Enqueues all tasks or none. [`Error::Overloaded`] at once if the writer has too much to do.
    pub async fn enqueue(&self, tasks: Vec<NewTask>) -> Result<EnqueueAnswer> {
        let kib = tasks.iter().map(NewTask::bytes).sum::<usize>() / 1024 + 1;
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        // Kept until the answer, since until then the tasks take memory in the writer's queue.
        let _room = self.room.try_acquire_many(kib).map_err(|_full| Error::Overloaded)?;
        self.ask(Command::Enqueue, tasks).await
    }

    /// Claims tasks that may start now.
    pub async fn claim(&self, request: ClaimRequest) -> Result<Claims> {
        self.insist(Command::Claim, request).await
    }

    /// Claims tasks for a worker. If there are none, waits for some, at most for `wait`.
    pub async fn lease(
        &self,
        executor: ExecutorId,
        request: ClaimRequest,
        wait: Duration,
    ) -> Result<Vec<Held<Claimed>>> {
        let _asking = match &request.by {
            Claimer::Worker { queues, .. } => self.asks.begin(executor, queues),
            Claimer::Dispatcher { .. } => None,
        };
        let until = self.clock.elapsed() + wait;
        let mut looks = ROUTING_LOOKS_MAX;
        loop {
            // Taken before the claim: a task that becomes available after the claim calls this
            // place.
            let mut place = self.signals.idle(executor);
            let Claims { begun, no_room } = self.claim_or_give_back(request.clone()).await?;
            let left = until.saturating_sub(self.clock.elapsed());
            if begun.is_empty() && no_room {
                if left.is_zero() {
                    return Err(Error::NoRoom);
                }
                // Room comes free when other requests have sent their answers, and no signal says
                // so.
                self.clock.sleep(left.min(ROOM_LOOK)).await;
                continue;
            }
            if !begun.is_empty() || (left.is_zero() && looks == 0) {
                return Ok(begun);
            }
            if left.is_zero() {
                // No empty answer while tasks are still on their way to executors that have just
                // registered.
                looks = if self.is_routed().await? { 0 } else { looks - 1 };
                if looks > 0 {
                    tokio::time::timeout(ROUTING_LOOK, place.called()).await.ok();
                }
                continue;
            }
            tokio::select! {
                () = place.called() => {}
                () = self.clock.sleep(left.min(self.idle_poll)) => {}
            }
        }
    }

    /// Claims tasks and hands them to the caller. If the caller was dropped by then (its request
    /// was cut off), no attempt has begun, so the tasks are given back.
    async fn claim_or_give_back(&self, request: ClaimRequest) -> Result<Claims> {
        let (asker, answer) = oneshot::channel();
        let store = self.clone();
        tokio::spawn(async move {
            let claimed = store.claim(request).await;
            // If the caller is gone, or goes before it has taken the value out of the channel,
            // `Handed` is dropped, and its `Drop` gives the tasks back.
            drop(asker.send(claimed.map(|claims| Handed { claims, store })));
        });
        answer.await.unwrap_or(Err(Error::Closed)).map(Handed::take)
    }

    /// Marks an attempt as detached: the executor works on by itself and reports with its token.
    pub async fn detach(&self, lease: Lease) -> Result<std::result::Result<(), LeaseLost>> {
        self.insist(Command::Detach, lease.into()).await
    }

    /// Ends an attempt. Exactly one end of each attempt is recorded: a second report gets
    /// [`LeaseLost`].
    pub async fn finish(
        &self,
        lease: impl Into<LeaseToken>,
        outcome: Outcome,
    ) -> Result<std::result::Result<Ended, LeaseLost>> {
        self.insist(Command::Finish, FinishRequest { token: lease.into(), outcome }).await
    }

    pub async fn cancel(&self, request: CancelRequest, note: Note) -> Result<CancelAnswer> {
        let done = |answer: &CancelAnswer| {
            matches!(answer, CancelAnswer::Cancelled | CancelAnswer::Requested)
        };
        self.ask_noted(Command::Cancel, request, note, done).await
    }

    pub async fn retry(&self, id: TaskId, note: Note) -> Result<RetryAnswer> {
        let done = |answer: &RetryAnswer| matches!(answer, RetryAnswer::Retried);
        self.ask_noted(Command::Retry, id, note, done).await
    }

    pub async fn delete(&self, id: TaskId, note: Note) -> Result<DeleteAnswer> {
        let done = |answer: &DeleteAnswer| matches!(answer, DeleteAnswer::Deleted);
        self.ask_noted(Command::Delete, id, note, done).await
    }

    pub async fn put_executor(
        &self,
        registration: Registration,
        note: Note,
    ) -> Result<std::result::Result<Registered, NotRegistered>> {
        self.ask_noted(Command::Put, registration, note, std::result::Result::is_ok).await
    }

    /// Pauses, resumes or limits an executor; `None` if none has the name.
    pub async fn change_executor(
        &self,
        change: ExecutorChange,
        note: Note,
    ) -> Result<Option<Executor>> {
        self.ask_noted(Command::Change, change, note, Option::is_some).await
    }

    /// Deregisters an executor, and returns whether it was registered.
    pub async fn remove_executor(&self, name: ExecutorName, note: Note) -> Result<bool> {
        self.ask_noted(Command::Remove, name, note, |found| *found).await
    }

    /// Stores a plugin's component and makes it the version that runs.
    pub async fn install_plugin(
        &self,
        new: NewPlugin,
        note: Note,
    ) -> Result<std::result::Result<Installed, NotRegistered>> {
        self.ask_noted(Command::Install, new, note, std::result::Result::is_ok).await
    }

    /// Makes another stored version of a plugin the one that runs.
    pub async fn activate_plugin(
        &self,
        request: ActivateRequest,
        note: Note,
    ) -> Result<ActivateAnswer> {
        let done = |answer: &ActivateAnswer| matches!(answer, ActivateAnswer::Done(_));
        self.ask_noted(Command::Activate, request, note, done).await
    }

    /// Deletes a plugin with all its versions.
    pub async fn uninstall_plugin(&self, name: PluginName, note: Note) -> Result<UninstallAnswer> {
        let done = |answer: &UninstallAnswer| matches!(answer, UninstallAnswer::Done);
        self.ask_noted(Command::Uninstall, name, note, done).await
    }

    /// Changes a queue's settings and returns the settings that now hold.
    pub async fn set_queue(&self, change: QueueChange, note: Note) -> Result<SetAnswer> {
        self.ask_noted(Command::SetQueue, change, note, std::result::Result::is_ok).await
    }

    pub async fn create_token(
        &self,
        request: CreateTokenRequest,
        note: Note,
    ) -> Result<CreateTokenAnswer> {
        let done = |answer: &CreateTokenAnswer| matches!(answer, CreateTokenAnswer::Created(_));
        self.ask_noted(Command::CreateToken, request, note, done).await
    }

    pub async fn revoke_token(
        &self,
        request: RevokeTokenRequest,
        note: Note,
    ) -> Result<RevokeTokenAnswer> {
        let done = |answer: &RevokeTokenAnswer| matches!(answer, RevokeTokenAnswer::Revoked);
        self.ask_noted(Command::RevokeToken, request, note, done).await
    }

    /// Stores when tokens were last used.
    pub async fn note_token_uses(&self, uses: Vec<(TokenName, Timestamp)>) -> Result<()> {
        self.ask(Command::NoteUses, uses).await
    }

    /// Stores which workers have asked for tasks, and when.
    pub(super) async fn note_asks(&self, asks: Vec<Ask>) -> Result<()> {
        self.ask(Command::NoteAsks, asks).await
    }

    /// Deletes some of the audit log's entries that are older than `age`, and returns whether there
    /// are more.
    pub async fn trim_audit(&self, age: Duration) -> Result<bool> {
        let before = micros(self.clock.now().saturating_sub(age).unwrap_or(Timestamp::MIN));
        if self.read(move |mut link| audit::has_older(&mut link, before)).await? {
            return self.insist(Command::TrimAudit, before).await;
        }
        Ok(false)
    }

    /// Applies the passage of time: tasks become due or expire, leases end. The reaper calls it.
    pub async fn sweep(&self) -> Result<()> {
        self.insist(Command::Sweep, SweepRequest).await
    }

    /// Deletes some of the tasks that ended longer ago than `retention` says.
    pub async fn prune(&self, retention: Retention) -> Result<Pruned> {
        self.insist(Command::Prune, PruneRequest { retention }).await
    }

    /// Deletes some of these tasks at a user's request, with an entry in the audit log.
    pub async fn prune_now(&self, retention: Retention, note: Note) -> Result<Pruned> {
        let done = |pruned: &Pruned| pruned.deleted.total() > 0;
        self.ask_noted(Command::Prune, PruneRequest { retention }, note, done).await
    }

    /// Deletes some of the events beyond the age and bytes of `retention`, and returns whether
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

    /// How many bytes of events this process has written; the receiver sees the number grow.
    pub fn event_bytes(&self) -> watch::Receiver<u64> {
        self.signals.news_bytes()
    }

    /// Checks that the database takes writes, by committing an empty batch.
    pub async fn check(&self) -> Result<()> {
        let by = Claimer::Dispatcher { plugins: PluginRoom::default() };
        let nothing = ClaimRequest { by, limit: 0 };
        self.ask(Command::Claim, nothing).await.map(drop)
    }

    /// How many commands wait for the writer.
    pub fn waiting_commands(&self) -> usize {
        self.commands.max_capacity() - self.commands.capacity()
    }

    /// Sends a command and waits for its answer; refused at once if the writer's queue is full.
    async fn ask<I, O>(&self, command: fn(Pending<I, O>) -> Command, input: I) -> Result<O> {
        let (waiter, answer) = oneshot::channel();
        self.submit(command(Pending::new(input, waiter)), answer).await
    }

    /// Sends a command that has an entry in the audit log, and waits for its answer.
    async fn ask_noted<I, O>(
        &self,
        command: fn(Pending<I, O>) -> Command,
        input: I,
        note: Note,
        done: fn(&O) -> bool,
    ) -> Result<O> {
        let (waiter, answer) = oneshot::channel();
        self.submit(command(Pending::new(input, waiter).noted(note, done)), answer).await
    }

    async fn submit<O>(&self, command: Command, answer: oneshot::Receiver<Result<O>>) -> Result<O> {
        self.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Error::Closed,
        })?;
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(answer) => answer.unwrap_or(Err(Error::Closed)),
            Err(_elapsed) => Err(Error::Unavailable("the database does not answer".into())),
        }
    }

    /// Sends a command that must not be refused, and waits for as long as it takes: heartbeats and
    /// ends of attempts have to get through just when there is too much to do.
    pub(super) async fn insist<I, O>(
        &self,
        command: fn(Pending<I, O>) -> Command,
        input: I,
    ) -> Result<O> {
        let (waiter, answer) = oneshot::channel();
        if self.commands.send(command(Pending::new(input, waiter))).await.is_err() {
            return Err(Error::Closed);
        }
        answer.await.unwrap_or(Err(Error::Closed))
    }
}

/// Claimed tasks on their way to the caller. If they are not taken, `Drop` gives them back.
struct Handed {
    claims: Claims,
    store: Store,
}

impl Handed {
    fn take(mut self) -> Claims {
        mem::take(&mut self.claims)
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        for Held { value: Claimed { lease, .. }, .. } in mem::take(&mut self.claims.begun) {
            let end = FinishRequest { token: lease.into(), outcome: Outcome::HandedBack };
            let (waiter, _nobody) = oneshot::channel();
            // `drop` cannot wait for room in the queue.
            if self.store.commands.try_send(Command::Finish(Pending::new(end, waiter))).is_err() {
                tracing::warn!("a task has to wait until its lease runs out");
            }
        }
    }
}
