use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
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

/// How long to leave the database alone after a claim failed.
const CLAIM_RETRY: Duration = Duration::from_secs(1);
/// Executors that are told at once to stop an attempt.
const NOTICES_AT_ONCE: usize = 64;

/// Claims what may start, exactly as much as there is room for, and runs it.
///
/// It keeps nothing that could not be read again after a crash: the attempts in flight are
/// leases in the store, which run out by themselves.
pub struct Dispatcher {
    pub(super) store: Store,
    pub(super) executor: Executors,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) traces: Traces,
    pub(super) capacity: Capacity,
    notices: Semaphore,
    in_flight: Mutex<HashMap<LeaseToken, Stop>>,
    attempts: TaskTracker,
}

/// By what people see what a dispatcher does.
#[derive(Clone)]
pub struct Seen {
    pub metrics: Arc<Metrics>,
    pub traces: Traces,
}

/// How a dispatcher comes to rest.
#[derive(Clone, Debug)]
pub struct Drain {
    /// Claim no more.
    pub stop_claiming: CancellationToken,
    /// Stop waiting for what runs.
    pub hurry: CancellationToken,
    /// How long to wait for it otherwise.
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
            notices: Semaphore::new(NOTICES_AT_ONCE),
            in_flight: Mutex::new(HashMap::new()),
            attempts: TaskTracker::new(),
        }
    }

    /// Works until told to stop, then waits for what runs and hands back what does not end.
    ///
    /// Cancellations are taken by the same loop that claims, so that one that comes right after
    /// the claim finds the attempt.
    pub async fn run(self: Arc<Self>, mut cancels: mpsc::Receiver<CancelSignal>, drain: Drain) {
        // What became claimable before this process began has told nobody.
        self.store.wake_dispatcher();
        loop {
            tokio::select! {
                biased;
                () = drain.stop_claiming.cancelled() => break,
                Some(signal) = cancels.recv() => self.cancel(signal),
                () = self.store.work() => self.step().await,
            }
        }
        self.come_to_rest(cancels, &drain).await;
    }

    /// Claims once and starts what was claimed.
    async fn step(self: &Arc<Self>) {
        let free = u32::try_from(self.capacity.permits.available_permits()).unwrap_or(u32::MAX);
        if free == 0 {
            // The permit that comes free next wakes this loop again.
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
                drop((permit, share));
                let has_room = this.capacity.memory.calls.was_refused();
                let someone_waits = place.is_some_and(PluginPlace::give_back) || has_room;
                // The end itself told that there is work. But without a permit it could not be
                // claimed, nor without a place, or room for what it carries.
                if someone_waits || this.capacity.permits.available_permits() <= 1 {
                    this.store.wake_dispatcher();
                }
            });
        }
        // Places that were given back while the claim was made woke nobody for its sake.
        if self.capacity.places.is_to_claim_again(&plugins) {
            self.store.wake_dispatcher();
        }
    }

    /// Stops the attempt if it is in a request of this process, and tells its executor.
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

    async fn come_to_rest(
        self: &Arc<Self>,
        mut cancels: mpsc::Receiver<CancelSignal>,
        drain: &Drain,
    ) {
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
