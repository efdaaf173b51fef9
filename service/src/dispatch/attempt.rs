//! One attempt, from its claim to its recorded end: calls the executor and meanwhile renews the
//! lease and stores log lines and progress.
//!
//! The attempt ends by whichever comes first: the executor's answer, a cancellation, the shutdown,
//! the loss of the lease, or the deadline. The end is then stored under the lease's token. The
//! store accepts it only while the lease is valid, so that one end of each attempt is recorded,
//! even if another process has recorded the attempt as lost meanwhile.

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

/// How many renewals fit into the life of a lease: two of them may fail before it expires.
const RENEWALS_PER_LEASE: u32 = 3;

/// How long log lines and progress of an attempt are gathered before they are stored.
const JOURNAL_PERIOD: Duration = Duration::from_millis(250);

/// In the last moments before the deadline, log lines and progress are stored without that delay,
/// because the store accepts nothing after it.
const LAST_CALL: Duration = Duration::from_millis(100);

/// If a sleep lasts this much longer than asked for, the process stood still: it was stopped, or it
/// had no processor.
const STOOD_STILL: Duration = Duration::from_secs(1);

/// After such a standstill, the time allowed to read an answer that arrived during it.
const LATE_ANSWER: Duration = Duration::from_secs(2);

/// If the database is away, the end of an attempt is sent to the store this many times, with this
/// pause in between: together about as long as a lease lasts.
const FINISH_TRIES_MAX: u32 = 60;
const FINISH_RETRY: Duration = Duration::from_millis(500);

/// How long a stopping service tries to tell an executor that its attempt is over.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// The store's answer to a heartbeat.
type Renewed = store::Result<std::result::Result<Renewal, LeaseLost>>;

/// Stops an attempt from outside: because its task was cancelled, or because the service stops.
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
    /// When the task was claimed, by the monotonic clock, which cannot be set.
    claimed_at: Duration,
    stop: Stop,
    journal: Arc<Journal>,
    /// Memory for the executor's answer. Kept until the end is stored.
    room: AnswerRoom,
    trace: AttemptTrace,
}

/// What ended the wait for the executor's answer.
enum End {
    Answered(Answer),
    Cancelled,
    Shutdown,
    /// The lease was lost, or the deadline has passed. The reaper records the end.
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

    /// Runs the attempt and stores its end.
    pub(super) async fn run(mut self) {
        let inputs = self.claimed.assignment.take_inputs();
        let end = self.wait(inputs).await;
        let answer = if let End::Answered(answer) = &end { Some(answer) } else { None };
        self.trace.called(answer, self.dispatcher.clock.now());
        // Before the end is stored: with the lease, the right to store log lines goes, too.
        self.store_last_words().await;
        let Self { dispatcher, claimed, stop, trace, .. } = self;
        let Claimed { lease, assignment, executor } = claimed;
        let stored = match end {
            End::Answered(Answer::Accepted) => dispatcher.store.detach(lease).await,
            End::Answered(Answer::Ended(outcome)) => dispatcher.finish(lease, outcome, &stop).await,
            End::Cancelled => dispatcher.finish(lease, Outcome::Cancelled, &stop).await,
            End::Shutdown => {
                // The executor is told at the same time as the task is handed back, since a
                // stopping service has little time.
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
            // The lease will expire, and the task is tried again.
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                task.id = %assignment.task.id,
                "the end of an attempt could not be stored"
            ),
        }
    }

    /// Calls the executor and waits until the attempt ends in one of the ways of [`End`]. When this
    /// returns without an answer, the call's future is dropped, which closes its connection.
    async fn wait(&self, inputs: Inputs) -> End {
        let Claimed { assignment, executor, .. } = &self.claimed;
        let Dispatcher { executor: by, clock, metrics, .. } = self.dispatcher;
        let _in_flight = metrics.call(executor.registration.name.as_str());
        let journal = Arc::clone(&self.journal);
        let work = Work { executor, assignment, inputs, room: &self.room, journal };
        let call = by.execute(work, clock.now());
        // `biased`, with the call first: if the answer is there at the same moment as a
        // cancellation or the deadline, the answer counts.
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

    /// Returns when the time of the attempt is over.
    async fn overtime(&self) {
        let Dispatcher { clock, .. } = self.dispatcher;
        let asleep = clock.pulse();
        let left = self.time_left();
        clock.sleep(left).await;
        // If the process stood still during the sleep, the executor's answer may have arrived in
        // time without having been read. So the call gets some more time to read it.
        if clock.pulse().saturating_sub(asleep).saturating_sub(left) >= STOOD_STILL {
            clock.sleep(LATE_ANSWER).await;
        }
    }

    /// How much time of the attempt is left.
    fn time_left(&self) -> Duration {
        let passed = self.dispatcher.clock.elapsed().saturating_sub(self.claimed_at);
        self.claimed.assignment.time().saturating_sub(passed)
    }

    /// Renews the lease until the attempt ends. The times of the renewals are fixed, so that a slow
    /// answer from the store does not delay the next renewal.
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

    /// Stores log lines and progress as the attempt reports them. Runs beside `keep_alive`: a log
    /// line may have to wait for room (`Store::log_room`), and a heartbeat must not wait for that.
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

    /// How the store's answer to a heartbeat ends the attempt, if it does.
    fn is_over(&self, renewed: &Renewed) -> Option<End> {
        match renewed {
            // Cancelling may have been requested in another process, whose signal did not get here.
            Ok(Ok(renewal)) => renewal.cancel_requested.then_some(End::Cancelled),
            Ok(Err(LeaseLost)) => Some(End::Over),
            // The code that found the database away has logged that already.
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
    /// Returns a moment after the attempt has reported something, so that more can be stored with
    /// it.
    async fn news(&self) {
        self.journal.news().await;
        let last_call = self.time_left().saturating_sub(LAST_CALL);
        self.dispatcher.clock.sleep(JOURNAL_PERIOD.min(last_call)).await;
    }

    /// Sends a heartbeat, with log lines and progress if there are any.
    async fn renew(&self, said: Said) -> Renewed {
        let request = RenewRequest {
            token: self.claimed.lease.token(),
            progress: said.progress,
            log: said.log,
        };
        self.dispatcher.store.renew(request).await
    }

    /// Stores the next piece of the log, and the progress. If that fails, the piece goes back into
    /// the journal and is stored with the next one.
    ///
    /// The future of this function may be dropped while it waits for room. Therefore nothing is
    /// taken out of the journal before there is room: it would be lost.
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

    /// Stores what is left in the journal after the call has ended, while the lease is still valid.
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
    /// Stores the end of an attempt, and repeats that while the database is away: the work was
    /// done, and no other process knows how it ended. If the first try did store it, the lease is
    /// gone, and a repetition changes nothing. Once the service is told to hand back its attempts,
    /// the end is sent no more than once again.
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

/// The end of an attempt that the shutdown interrupts. It normally does not count as an attempt, so
/// that a deploy costs none. But how far the executor came is unknown, so a task that allows only
/// one attempt is recorded as lost instead of being started a second time.
fn handed_back(assignment: &Assignment) -> Outcome {
    if assignment.max_attempts > 1 {
        return Outcome::HandedBack;
    }
    Outcome::Failed(Failure::new(
        FailureKind::Lost,
        "the service was stopped while the task ran, and it may be tried only once",
    ))
}
