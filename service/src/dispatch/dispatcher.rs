//! The loop that claims tasks for executors that are called (HTTP) or run in this process
//! (plugins), and starts one [`Attempt`] for each claimed task.
//!
//! Three limits bound what runs at once: a semaphore of permits (one per attempt), the places for
//! plugins, and the memory for task inputs (see [`Capacity`]). The loop never claims more than
//! these allow, since a claimed task whose attempt cannot start would use up its lease. Each claim
//! is woken by a commit that made work claimable, or by an ended attempt that freed one of the
//! three (the comments in `Dispatcher::step` say how).

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::attempt::{Attempt, Stop};
use crate::{
    capacity::{Capacity, PluginPlace},
    clock::Clock,
    domain::lease::LeaseToken,
    executor::{CancelNotice, Executors},
    memory::Held,
    metrics::Metrics,
    store::{self, Callee, CancelSignal, ClaimRequest, Claimer, Store},
    traces::Traces,
};

/// How long the dispatcher leaves the database alone after a claim failed.
const CLAIM_RETRY: Duration = Duration::from_secs(1);
/// How many executors are sent a cancel notice at once.
const NOTICES_AT_ONCE: usize = 64;

/// Claims tasks, never more than there is room for, and runs their attempts.
///
/// It keeps no state that could not be read again after a crash: the attempts in flight are leases
/// in the store, which expire by themselves.
pub struct Dispatcher {
    pub(super) store: Store,
    pub(super) executor: Executors,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) traces: Traces,
    pub(super) capacity: Capacity,
    /// The last claim may have left tasks for want of permits.
    short_of_permits: AtomicBool,
    /// Limits how many cancel notices are sent at once.
    notices: Semaphore,
    /// To stop an attempt of this process when its task is cancelled, or at shutdown.
    in_flight: Mutex<HashMap<LeaseToken, Stop>>,
    /// All spawned tasks: attempts and cancel notices. Shutdown waits for them.
    attempts: TaskTracker,
}

/// Metrics and traces of the dispatcher.
#[derive(Clone)]
pub struct Seen {
    pub metrics: Arc<Metrics>,
    pub traces: Traces,
}

/// How the dispatcher stops at shutdown.
#[derive(Clone, Debug)]
pub struct Drain {
    /// When cancelled, the dispatcher claims no more tasks.
    pub stop_claiming: CancellationToken,
    /// When cancelled, it stops waiting for running attempts and hands them back.
    pub hurry: CancellationToken,
    /// How long it waits for running attempts if nothing tells it to hurry.
    pub grace: Duration,
}

impl Drain {
    pub fn new(grace: Duration) -> Self {
        Self { stop_claiming: CancellationToken::new(), hurry: CancellationToken::new(), grace }
    }
}

impl Dispatcher {
    pub fn new(
        store: Store,
        executor: Executors,
        clock: Arc<dyn Clock>,
        seen: Seen,
        capacity: Capacity,
    ) -> Self {
        Self {
            store,
            executor,
            clock,
            metrics: seen.metrics,
            traces: seen.traces,
            capacity,
            short_of_permits: AtomicBool::new(false),
            notices: Semaphore::new(NOTICES_AT_ONCE),
            in_flight: Mutex::new(HashMap::new()),
            attempts: TaskTracker::new(),
        }
    }

    /// Claims and runs tasks until told to stop, then waits for the attempts that run, and hands
    /// back the tasks of those that do not end within the grace period.
    ///
    /// One loop both claims and handles cancel signals. A signal that is sent right after the claim
    /// committed is therefore read only when `step` has entered the attempt in `in_flight`.
    pub async fn run(self: Arc<Self>, mut cancels: mpsc::Receiver<CancelSignal>, drain: Drain) {
        // Tasks that became claimable before this process started have caused no wake-up in it.
        self.store.wake_dispatcher();
        loop {
            // `biased`, so that neither a stop nor a cancel waits behind a steady stream of work.
            tokio::select! {
                biased;
                () = drain.stop_claiming.cancelled() => break,
                Some(signal) = cancels.recv() => self.cancel(signal),
                () = self.store.work() => self.step().await,
            }
        }
        self.come_to_rest(cancels, &drain).await;
    }

    /// Claims once and starts an attempt for each claimed task.
    async fn step(self: &Arc<Self>) {
        // Set the mark first and look then: a permit that comes free after the look finds the mark,
        // and its attempt wakes this loop. A comparison of counts at the end of an attempt would not
        // do: two attempts that end at once may both see two free permits.
        self.short_of_permits.store(true, Ordering::SeqCst);
        let free = u32::try_from(self.capacity.permits.available_permits()).unwrap_or(u32::MAX);
        if free == 0 {
            return;
        }
        let plugins = self.capacity.places.room();
        let request =
            ClaimRequest { by: Claimer::Dispatcher { plugins: plugins.clone() }, limit: free };
        let begun = match self.store.claim(request).await {
            Ok(claims) => claims.begun,
            Err(error) => {
                if !matches!(error, store::Error::Unavailable(_)) {
                    tracing::error!(error = &error as &dyn std::error::Error, "claiming failed");
                }
                let (store, clock) = (self.store.clone(), Arc::clone(&self.clock));
                tokio::spawn(async move {
                    clock.sleep(CLAIM_RETRY).await;
                    store.wake_dispatcher();
                });
                return;
            }
        };
        if begun.len() < usize::try_from(free).unwrap_or(usize::MAX) {
            // Not for want of permits: a commit that makes more claimable wakes this loop.
            self.short_of_permits.store(false, Ordering::SeqCst);
        }
        // The order matters: the attempt has to be in `in_flight` before the loop can read the next
        // cancel signal.
        for Held { value: claimed, share } in begun {
            let stop = Stop::default();
            let token = claimed.lease.token();
            self.in_flight().insert(token, stop.clone());
            let this = Arc::clone(self);
            let permit = Arc::clone(&self.capacity.permits).try_acquire_owned();
            let place = self.capacity.places.take(&claimed.executor);
            self.attempts.spawn(async move {
                Attempt::new(&this, claimed, stop).run().await;
                this.in_flight().remove(&token);
                // First give back permit and memory, then look whether a claim lacked them: in the
                // other order, a claim that lacks them between the two would be woken by nothing.
                drop((permit, share));
                let permit_is_wanted = this.short_of_permits.swap(false, Ordering::SeqCst);
                let memory_is_wanted = this.capacity.memory.calls.was_refused();
                let place_is_wanted = place.is_some_and(PluginPlace::give_back);
                // If the executor or the queue has a limit, recording the end has already woken
                // the dispatcher. But its claim may have come before permit, place and memory were
                // free again, and have got less than it could use now.
                if permit_is_wanted || memory_is_wanted || place_is_wanted {
                    this.store.wake_dispatcher();
                }
            });
        }
        // A place that was given back during this claim caused no wake-up, because the claim had
        // not yet said that it was short of places. So compare now, and claim again if places have
        // come free since.
        if self.capacity.places.is_to_claim_again(&plugins) {
            self.store.wake_dispatcher();
        }
    }

    /// Stops the attempt if this process runs it, and sends a cancel notice to its executor if the
    /// signal names one.
    fn cancel(self: &Arc<Self>, signal: CancelSignal) {
        let stop = self.in_flight().get(&signal.token).cloned();
        if let Some(stop) = stop {
            stop.because_cancelled();
        }
        let Some(Callee { task_id, attempt, executor }) = signal.callee else {
            return;
        };
        let notice = CancelNotice { task_id, token: signal.token, attempt };
        let this = Arc::clone(self);
        self.attempts.spawn(async move {
            let _turn = this.notices.acquire().await;
            this.executor.cancel(&executor, notice, this.clock.now()).await;
        });
    }

    /// Waits for the running attempts, at most for the grace period, then hands the rest back.
    /// Cancel signals are still handled meanwhile, since users may cancel tasks that run on.
    async fn come_to_rest(
        self: &Arc<Self>,
        mut cancels: mpsc::Receiver<CancelSignal>,
        drain: &Drain,
    ) {
        // A closed tracker still takes new tasks; `wait` returns once it is closed and empty.
        self.attempts.close();
        let mut grace = pin!(self.clock.sleep(drain.grace));
        loop {
            tokio::select! {
                () = self.attempts.wait() => return,
                () = drain.hurry.cancelled() => break,
                () = &mut grace => break,
                Some(signal) = cancels.recv() => self.cancel(signal),
            }
        }
        let left: Vec<Stop> = self.in_flight().values().cloned().collect();
        tracing::info!(attempts = left.len(), "handing back what still runs");
        for stop in left {
            stop.because_of_shutdown();
        }
        self.attempts.wait().await;
    }

    fn in_flight(&self) -> std::sync::MutexGuard<'_, HashMap<LeaseToken, Stop>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
