//! What a commit tells the rest of the process, so that nobody has to poll.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::circuit::Turn;
use crate::{
    domain::{
        Timestamp,
        executor::{Executor, ExecutorId},
        lease::LeaseToken,
        task::TaskId,
    },
    metrics::Observation,
};

/// Cancellations that may wait for the dispatcher. One that finds no room is not lost: the
/// attempt is fenced off when its grace is over.
const CANCELS_MAX: usize = 10_000;

/// A running attempt is not wanted any more.
#[derive(Clone, Debug)]
pub struct CancelSignal {
    pub token: LeaseToken,
    /// Whom to tell, if that is this process's part and there is somebody to call.
    pub callee: Option<Callee>,
}

/// An executor that is to be told to stop an attempt.
#[derive(Clone, Debug)]
pub struct Callee {
    pub task_id: TaskId,
    pub attempt: u32,
    pub executor: Arc<Executor>,
}

/// What can be claimed that could not before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// For executors that are called.
    pub(super) dispatcher: bool,
    /// For workers: about how many tasks, by executor.
    pub(super) workers: BTreeMap<ExecutorId, u32>,
    /// Whatever it is, for whomever.
    pub(super) everybody: bool,
}

/// Gathered within a transaction, published after its commit.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) work: Work,
    pub(super) finished: Vec<TaskId>,
    /// Events were written.
    pub(super) news: bool,
    /// So many bytes of them.
    pub(super) news_bytes: u64,
    pub(super) cancels: Vec<CancelSignal>,
    /// Cancellations of before, in case this process has not heard of them.
    pub(super) recalls: Vec<CancelSignal>,
    /// The earliest time at which the sweep has something to do.
    pub(super) sweep_at: Option<Timestamp>,
    /// A sweep has looked at everything: times known before do not count any more.
    pub(super) swept: bool,
    /// What metrics count.
    pub(super) observations: Vec<Observation>,
    /// Changes of executors' circuits, for the log.
    pub(super) turns: Vec<Turn>,
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
    /// Workers that wait for tasks, by executor; who has waited longest is first.
    idle: Mutex<HashMap<ExecutorId, VecDeque<oneshot::Sender<()>>>>,
    sweep_at: watch::Sender<Option<Timestamp>>,
    cancels: mpsc::Sender<CancelSignal>,
    waiting: Mutex<HashMap<TaskId, Arc<Notify>>>,
    news: Notify,
    /// Bytes of events that this process has written.
    news_bytes: watch::Sender<u64>,
}

impl Signals {
    pub(super) fn new() -> (Arc<Self>, mpsc::Receiver<CancelSignal>) {
        let (cancels, receiver) = mpsc::channel(CANCELS_MAX);
        let signals = Self {
            work: Notify::new(),
            idle: Mutex::new(HashMap::new()),
            sweep_at: watch::Sender::new(None),
            cancels,
            waiting: Mutex::new(HashMap::new()),
            news: Notify::new(),
            news_bytes: watch::Sender::new(0),
        };
        (Arc::new(signals), receiver)
    }

    /// Called by the writer only, in the order of its commits.
    pub(super) fn publish(&self, effects: &Effects) {
        self.set_alarm(effects);
        self.tell_work(&effects.work);
        for cancel in effects.cancels.iter().chain(&effects.recalls) {
            self.tell_cancel(cancel.clone());
        }
        self.tell_waiting(&effects.finished);
        if effects.news {
            self.tell_news();
            self.news_bytes.send_modify(|bytes| *bytes += effects.news_bytes);
        }
    }

    pub(super) fn tell_work(&self, work: &Work) {
        if work.dispatcher || work.everybody {
            self.work.notify_one();
        }
        let mut idle = locked(&self.idle);
        if work.everybody {
            for (_, workers) in idle.drain() {
                wake(workers, u32::MAX);
            }
        }
        for (executor, tasks) in &work.workers {
            if let Some(workers) = idle.remove(executor) {
                let left = wake(workers, *tasks);
                if !left.is_empty() {
                    idle.insert(*executor, left);
                }
            }
        }
    }

    pub(super) fn tell_cancel(&self, cancel: CancelSignal) {
        if self.cancels.try_send(cancel).is_err() {
            tracing::warn!("too many cancellations at once; one waits for its grace to end");
        }
    }

    /// These tasks have changed, so who waits for one is to look at it.
    pub(super) fn tell_waiting(&self, changed: &[TaskId]) {
        if changed.is_empty() {
            return;
        }
        let waiting = locked(&self.waiting);
        for changed in changed.iter().filter_map(|id| waiting.get(id)) {
            changed.notify_waiters();
        }
    }

    pub(super) fn tell_news(&self) {
        self.news.notify_one();
    }

    /// Returns once events may have been written since the last call.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// Bytes of events that this process has written, as they grow.
    pub(super) fn news_bytes(&self) -> watch::Receiver<u64> {
        self.news_bytes.subscribe()
    }

    /// Something may have been missed: everybody is to look for himself.
    pub(super) fn tell_everybody(&self) {
        self.tell_work(&Work { everybody: true, ..Work::default() });
        for waiting in locked(&self.waiting).values() {
            waiting.notify_waiters();
        }
        self.tell_news();
    }

    /// Returns once work may have come for the dispatcher since the last call.
    pub(super) async fn work(&self) {
        self.work.notified().await;
    }

    pub(super) fn wake_dispatcher(&self) {
        self.work.notify_one();
    }

    /// A place in the line of an executor's idle workers. Take it before looking for tasks, so
    /// that what comes in between is not missed.
    pub(super) fn idle(self: &Arc<Self>, executor: ExecutorId) -> Place {
        let (sender, receiver) = oneshot::channel();
        let mut idle = locked(&self.idle);
        let line = idle.entry(executor).or_default();
        // Those who have gone are not to fill it.
        line.retain(|waiting| !waiting.is_closed());
        line.push_back(sender);
        Place { signals: Arc::clone(self), executor, called: receiver }
    }

    /// The sweep's alarm: the time at which it has to look, as far as is known.
    pub(super) fn alarm(&self) -> watch::Receiver<Option<Timestamp>> {
        self.sweep_at.subscribe()
    }

    /// In the order of commits, so that no time gets lost between a sweep and what was committed
    /// after it.
    fn set_alarm(&self, effects: &Effects) {
        self.sweep_at.send_if_modified(|known| {
            let before = if effects.swept { None } else { *known };
            let soonest = before.into_iter().chain(effects.sweep_at).min();
            let changed = soonest != *known;
            *known = soonest;
            changed
        });
    }

    /// Notified when the task ends, and when it changes while somebody follows events; dropped by
    /// the last waiter.
    pub(super) fn ending(self: &Arc<Self>, id: TaskId) -> Ending {
        let mut waiting = locked(&self.waiting);
        let notify = Arc::clone(waiting.entry(id).or_default());
        Ending { signals: Arc::clone(self), id, notify }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes up to `count` of those who still wait, and returns the rest of the line.
fn wake(mut line: VecDeque<oneshot::Sender<()>>, count: u32) -> VecDeque<oneshot::Sender<()>> {
    let mut left = count;
    while left > 0 {
        let Some(waiting) = line.pop_front() else { break };
        // Who has gone away does not count.
        if waiting.send(()).is_ok() {
            left -= 1;
        }
    }
    line
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
        let mut waiting = locked(&self.signals.waiting);
        // The map's, and this one.
        if Arc::strong_count(&self.notify) <= 2 {
            waiting.remove(&self.id);
        }
    }
}

/// A place in a line of idle workers. If it is called when its worker has left or has found
/// something else to do, the next in line is called instead.
pub(super) struct Place {
    signals: Arc<Signals>,
    executor: ExecutorId,
    called: oneshot::Receiver<()>,
}

impl Place {
    pub(super) async fn called(&mut self) {
        // A line that is gone calls nobody; it was called for everybody before.
        (&mut self.called).await.ok();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.called.close();
        if self.called.try_recv().is_ok() {
            let workers = BTreeMap::from([(self.executor, 1)]);
            self.signals.tell_work(&Work { workers, ..Work::default() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{ExecutorId, Signals, Work};

    #[test]
    fn who_left_the_line_when_called_hands_the_call_on() {
        let (signals, _cancels) = Signals::new();
        let executor = ExecutorId(1);
        let [first, mut second, mut third] = [0; 3].map(|_| signals.idle(executor));
        let work = Work { workers: BTreeMap::from([(executor, 1)]), ..Work::default() };
        signals.tell_work(&work);
        assert!(second.called.try_recv().is_err(), "one task calls one worker");
        drop(first);
        assert!(second.called.try_recv().is_ok());
        assert!(third.called.try_recv().is_err());
    }
}
