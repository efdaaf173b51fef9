//! What a commit tells the rest of the process, so that nobody has to poll.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Notify, mpsc, watch};

use crate::domain::{Timestamp, executor::Executor, lease::LeaseToken, task::TaskId};

/// Cancellations that may wait for the dispatcher. One that finds no room is not lost: the
/// attempt is fenced off when its grace is over.
const CANCELS_MAX: usize = 10_000;

/// Somebody asked to cancel a running attempt.
#[derive(Clone, Debug)]
pub struct CancelSignal {
    pub task_id: TaskId,
    pub token: LeaseToken,
    pub attempt: u32,
    pub executor: Option<Arc<Executor>>,
}

/// Gathered within a transaction, published after its commit.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Something can be claimed that could not before.
    pub(super) work: bool,
    pub(super) finished: Vec<TaskId>,
    pub(super) cancels: Vec<CancelSignal>,
    /// The earliest time at which the sweep has something to do.
    pub(super) sweep_at: Option<Timestamp>,
    /// A sweep has looked at everything: times known before do not count any more.
    pub(super) swept: bool,
}

impl Effects {
    pub(super) fn sweep_by(&mut self, at: Timestamp) {
        self.sweep_at = Some(self.sweep_at.map_or(at, |before| before.min(at)));
    }
}

/// The listeners of one process.
#[derive(Debug)]
pub(super) struct Signals {
    work: Notify,
    sweep_at: watch::Sender<Option<Timestamp>>,
    cancels: mpsc::Sender<CancelSignal>,
    waiting: Mutex<HashMap<TaskId, Arc<Notify>>>,
}

impl Signals {
    pub(super) fn new() -> (Arc<Self>, mpsc::Receiver<CancelSignal>) {
        let (cancels, receiver) = mpsc::channel(CANCELS_MAX);
        let signals = Self {
            work: Notify::new(),
            sweep_at: watch::Sender::new(None),
            cancels,
            waiting: Mutex::new(HashMap::new()),
        };
        (Arc::new(signals), receiver)
    }

    pub(super) fn publish(&self, effects: Effects) {
        if effects.work {
            self.work.notify_one();
        }
        self.set_alarm(&effects);
        for cancel in effects.cancels {
            if self.cancels.try_send(cancel).is_err() {
                tracing::warn!("too many cancellations at once; one waits for its grace to end");
            }
        }
        if !effects.finished.is_empty() {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            for finished in effects.finished.iter().filter_map(|id| waiting.get(id)) {
                finished.notify_waiters();
            }
        }
    }

    /// Returns once work may have come since the last call.
    pub(super) async fn work(&self) {
        self.work.notified().await;
    }

    pub(super) fn wake_dispatcher(&self) {
        self.work.notify_one();
    }

    /// The sweep's alarm: the time at which it has to look, as far as is known.
    pub(super) fn alarm(&self) -> watch::Receiver<Option<Timestamp>> {
        self.sweep_at.subscribe()
    }

    /// Called by the writer only, in the order of its commits, so that no time gets lost between
    /// a sweep and what was committed after it.
    fn set_alarm(&self, effects: &Effects) {
        self.sweep_at.send_if_modified(|known| {
            let before = if effects.swept { None } else { *known };
            let soonest = before.into_iter().chain(effects.sweep_at).min();
            let changed = soonest != *known;
            *known = soonest;
            changed
        });
    }

    /// Notified when the task ends; dropped by the last waiter.
    pub(super) fn ending(self: &Arc<Self>, id: TaskId) -> Ending {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let notify = Arc::clone(waiting.entry(id).or_default());
        Ending { signals: Arc::clone(self), id, notify }
    }
}

/// One waiter for the end of a task.
pub(super) struct Ending {
    signals: Arc<Signals>,
    id: TaskId,
    notify: Arc<Notify>,
}

impl Ending {
    /// Interest is registered when this is called and first polled or enabled, so call it before
    /// looking at the task: an end in between is not missed.
    pub(super) fn notified(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let mut waiting = self.signals.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's, and this one.
        if Arc::strong_count(&self.notify) <= 2 {
            waiting.remove(&self.id);
        }
    }
}
