use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Dispatcher, trace::AttemptTrace};
use crate::{
    domain::{
        attempt::{Failure, FailureKind, Outcome},
        lease::{Assignment, Claimed, Inputs, Lease, LeaseToken, Renewal},
    },
    executor::{Answer, AnswerRoom, CancelNotice, Journal, Said, Work},
    store::{self, LeaseLost, RenewRequest},
};

/// Renewals in the life of a lease: two may fail before it runs out.
const RENEWALS_PER_LEASE: u32 = 3;

/// How long what an attempt says may wait until it is stored.
const JOURNAL_PERIOD: Duration = Duration::from_millis(250);

/// How long before its deadline what an attempt has said is stored without delay: after it, nothing
/// is.
const LAST_CALL: Duration = Duration::from_millis(100);

/// A process that wakes up so late has stood still: it was stopped, or had no processor.
const STOOD_STILL: Duration = Duration::from_secs(1);

/// What it takes then to read an answer that has come meanwhile.
const LATE_ANSWER: Duration = Duration::from_secs(2);

/// How often the end of an attempt is stored again while the database is away, and after what
/// time: about as long as a lease lasts.
const FINISH_TRIES_MAX: u32 = 60;
const FINISH_RETRY: Duration = Duration::from_millis(500);

/// How long a service that stops takes to tell an executor so.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// The answer to a heartbeat.
type Renewed = store::Result<std::result::Result<Renewal, LeaseLost>>;

/// Stops an attempt from outside.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop {
    cancelled: CancellationToken,
    shutdown: CancellationToken,
}

impl Stop {
    pub(super) fn because_cancelled(&self) {
        self.cancelled.cancel();
    }

    pub(super) fn because_of_shutdown(&self) {
        self.shutdown.cancel();
    }
}

/// One attempt, from its claim to its recorded end.
pub(super) struct Attempt<'a> {
    dispatcher: &'a Dispatcher,
    claimed: Claimed,
    /// When that was, by the clock that nobody sets.
    claimed_at: Duration,
    stop: Stop,
    journal: Arc<Journal>,
    /// Kept until the end is stored.
    room: AnswerRoom,
    trace: AttemptTrace,
}

/// What ended the wait for the executor's answer.
enum End {
    Answered(Answer),
    Cancelled,
    Shutdown,
    /// The lease ran out, or the deadline came: the reaper records it.
    Over,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(dispatcher: &'a Dispatcher, mut claimed: Claimed, stop: Stop) -> Self {
        let trace = AttemptTrace::begin(&dispatcher.traces, &mut claimed, dispatcher.clock.now());
        let journal = Arc::new(Journal::new(Arc::clone(&dispatcher.clock)));
        let room = AnswerRoom::new(Arc::clone(&dispatcher.capacity.memory));
        let claimed_at = dispatcher.clock.elapsed();
        Self { dispatcher, claimed, claimed_at, stop, journal, room, trace }
    }

    pub(super) async fn run(mut self) {
        let inputs = self.claimed.assignment.take_inputs();
        let end = self.wait(inputs).await;
        let answer = if let End::Answered(answer) = &end { Some(answer) } else { None };
        self.trace.called(answer, self.dispatcher.clock.now());
        self.store_last_words().await;
        let Self { dispatcher, claimed, stop, trace, .. } = self;
        let Claimed { lease, assignment, executor } = claimed;
        let stored = match end {
            End::Answered(Answer::Accepted) => dispatcher.store.detach(lease).await,
            End::Answered(Answer::Ended(outcome)) => dispatcher.finish(lease, outcome, &stop).await,
            End::Cancelled => dispatcher.finish(lease, Outcome::Cancelled, &stop).await,
            End::Shutdown => {
                let notice = CancelNotice::of(&assignment);
                let telling = dispatcher.executor.cancel(&executor, notice, dispatcher.clock.now());
                let telling = tokio::time::timeout(FAREWELL_TIMEOUT, telling);
                let handing_back = dispatcher.finish(lease, handed_back(&assignment), &stop);
                tokio::join!(telling, handing_back).1
            }
            End::Over => return,
        };
        trace.end(dispatcher.clock.now());
        match stored {
            Ok(Ok(())) => {}
            Ok(Err(LeaseLost)) => tracing::debug!(
                task.id = %assignment.task.id,
                "an answer came after the attempt was over"
            ),
            // The lease will run out, and the task is tried again.
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                task.id = %assignment.task.id,
                "the end of an attempt could not be stored"
            ),
        }
    }

    /// Whichever comes first; dropping the call closes its connection.
    async fn wait(&self, inputs: Inputs) -> End {
        let Claimed { assignment, executor, .. } = &self.claimed;
        let Dispatcher { executor: by, clock, metrics, .. } = self.dispatcher;
        let _in_flight = metrics.call(executor.registration.name.as_str());
        let journal = Arc::clone(&self.journal);
        let work = Work { executor, assignment, inputs, room: &self.room, journal };
        let call = by.execute(work, clock.now());
        tokio::select! {
            biased;
            answer = call => End::Answered(answer),
            () = self.stop.cancelled.cancelled() => End::Cancelled,
            () = self.stop.shutdown.cancelled() => End::Shutdown,
            end = self.keep_alive() => end,
            end = self.keep_journal() => end,
            () = self.overtime() => End::Over,
        }
    }

    /// Returns when the attempt has had its time.
    async fn overtime(&self) {
        let Dispatcher { clock, .. } = self.dispatcher;
        let asleep = clock.pulse();
        let left = self.time_left();
        clock.sleep(left).await;
        // A process that stood still meanwhile has yet to read what the executor said in time.
        if clock.pulse().saturating_sub(asleep).saturating_sub(left) >= STOOD_STILL {
            clock.sleep(LATE_ANSWER).await;
        }
    }

    fn time_left(&self) -> Duration {
        let passed = self.dispatcher.clock.elapsed().saturating_sub(self.claimed_at);
        self.claimed.assignment.time().saturating_sub(passed)
    }

    /// Renews the lease as long as it is ours, at fixed times, so that a slow answer does not
    /// push the next renewal away.
    async fn keep_alive(&self) -> End {
        let clock = &self.dispatcher.clock;
        let period = self.claimed.executor.registration.lease / RENEWALS_PER_LEASE;
        let mut due = clock.elapsed() + period;
        loop {
            clock.sleep(due.saturating_sub(clock.elapsed())).await;
            due = (due + period).max(clock.elapsed());
            if let Some(end) = self.is_over(&self.renew(Said::default()).await) {
                return end;
            }
        }
    }

    /// Stores what the attempt says. Beside the heartbeats, which do not wait for the log's turn.
    async fn keep_journal(&self) -> End {
        loop {
            self.news().await;
            while !self.journal.is_empty() {
                let renewed = self.store_piece().await;
                if let Some(end) = self.is_over(&renewed) {
                    return end;
                }
                if renewed.is_err() {
                    break;
                }
            }
        }
    }

    /// Whether the answer to a heartbeat says that the attempt is.
    fn is_over(&self, renewed: &Renewed) -> Option<End> {
        match renewed {
            // Asked through another process, whose word did not get here.
            Ok(Ok(renewal)) => renewal.cancel_requested.then_some(End::Cancelled),
            Ok(Err(LeaseLost)) => Some(End::Over),
            // Said once already, by whoever lost the database.
            Err(error) => {
                tracing::debug!(
                    error = error as &dyn std::error::Error,
                    task.id = %self.claimed.assignment.task.id,
                    "a lease could not be renewed"
                );
                None
            }
        }
    }
}

impl Attempt<'_> {
    /// Returns when the attempt has said something, and had time to say more.
    async fn news(&self) {
        self.journal.news().await;
        let last_call = self.time_left().saturating_sub(LAST_CALL);
        self.dispatcher.clock.sleep(JOURNAL_PERIOD.min(last_call)).await;
    }

    /// A heartbeat, with what the attempt has said.
    async fn renew(&self, said: Said) -> Renewed {
        let request = RenewRequest {
            token: self.claimed.lease.token(),
            progress: said.progress,
            log: said.log,
        };
        self.dispatcher.store.renew(request).await
    }

    /// Stores the next piece of what was said. If it does not get through, the next one takes it
    /// along. Nothing is taken before there is room for it: a future that waits may be dropped.
    async fn store_piece(&self) -> Renewed {
        let room = self.dispatcher.store.log_room(self.journal.log_bytes()).await;
        let said = self.journal.take(room.bytes);
        let copy = said.clone();
        let renewed = self.renew(said).await;
        if renewed.is_err() {
            self.journal.put_back(copy);
        }
        renewed
    }

    /// What was said last is stored while the lease still holds.
    async fn store_last_words(&self) {
        while !self.journal.is_empty() {
            match self.store_piece().await {
                Ok(Ok(_)) => {}
                Ok(Err(LeaseLost)) => {
                    tracing::debug!(
                        task.id = %self.claimed.assignment.task.id,
                        "the last words of an attempt came after it was over"
                    );
                    return;
                }
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        task.id = %self.claimed.assignment.task.id,
                        "the last words of an attempt could not be stored"
                    );
                    return;
                }
            }
        }
    }
}

impl Dispatcher {
    /// Stores the end of an attempt. While the database is away it is said again: the work was
    /// done, and nobody else knows how it ended. If it was stored the first time after all, the
    /// lease is gone, and saying it twice changes nothing. A service that has waited long enough to
    /// stop says it once.
    async fn finish(
        &self,
        lease: Lease,
        outcome: Outcome,
        stop: &Stop,
    ) -> store::Result<std::result::Result<(), LeaseLost>> {
        let token = LeaseToken::from(lease);
        let mut tries = FINISH_TRIES_MAX;
        loop {
            match self.store.finish(token, outcome.clone()).await {
                Err(store::Error::Unavailable(_)) if tries > 1 && !stop.shutdown.is_cancelled() => {
                    tries -= 1;
                    tokio::select! {
                        () = self.clock.sleep(FINISH_RETRY) => {}
                        () = stop.shutdown.cancelled() => {}
                    }
                }
                finished => return Ok(finished?.map(drop)),
            }
        }
    }
}

/// A deploy costs no attempt. But nobody knows how far the executor came, so a task that must
/// not be started twice is not.
fn handed_back(assignment: &Assignment) -> Outcome {
    if assignment.max_attempts > 1 {
        return Outcome::HandedBack;
    }
    Outcome::Failed(Failure::new(
        FailureKind::Lost,
        "the service was stopped while the task ran, and it may be tried only once",
    ))
}
