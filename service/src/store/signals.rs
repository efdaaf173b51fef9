//! The signals by which a commit tells the rest of the process of changes, so that no part has to
//! poll.
//!
//! Transactions gather [`Effects`]; the writer publishes them after the commit, in the order of
//! commits. Each waiting part registers its interest before it looks at the database, so that a
//! change in between is not missed: it wakes the part, which looks again.

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

/// How many cancellations may wait for the dispatcher. One that finds no room is dropped: then the
/// attempt's lease ends when its grace is over.
const CANCELS_MAX: usize = 10_000;

/// A running attempt has to stop.
#[derive(Clone, Debug)]
pub struct CancelSignal {
    pub token: LeaseToken,
    /// The executor to tell, if it is called and this process has to do it.
    pub callee: Option<Callee>,
}

/// An executor that has to be told to stop an attempt.
#[derive(Clone, Debug)]
pub struct Callee {
    pub task_id: TaskId,
    pub attempt: u32,
    pub executor: Arc<Executor>,
}

/// Tasks that can be claimed and could not be before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// There are tasks for executors that are called.
    pub(super) dispatcher: bool,
    /// There are tasks for workers: about how many, by executor.
    pub(super) workers: BTreeMap<ExecutorId, u32>,
    /// There may be tasks for any executor.
    pub(super) everybody: bool,
}

/// The effects of a transaction on others. They are gathered in it and published after its commit.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) work: Work,
    pub(super) finished: Vec<TaskId>,
    /// Events were written.
    pub(super) news: bool,
    /// How many bytes of events were written.
    pub(super) news_bytes: u64,
    pub(super) cancels: Vec<CancelSignal>,
    /// Cancellations of earlier transactions, in case this process has not heard of them.
    pub(super) recalls: Vec<CancelSignal>,
    /// The earliest time at which the sweep has something to do.
    pub(super) sweep_at: Option<Timestamp>,
    /// A sweep has looked at everything, so times that were known before do not count any more.
    pub(super) swept: bool,
    /// Events for the metrics to count.
    pub(super) observations: Vec<Observation>,
    /// Changes of executors' circuits, for the log.
    pub(super) turns: Vec<Turn>,
}

impl Effects {
    pub(super) fn sweep_by(&mut self, at: Timestamp) {
        self.sweep_at = Some(self.sweep_at.map_or(at, |before| before.min(at)));
    }
}

/// The parts of one process that wait for commits.
#[derive(Debug)]
pub(super) struct Signals {
    work: Notify,
    /// Workers that wait for tasks, by executor. The one that has waited longest is first.
    idle: Mutex<HashMap<ExecutorId, VecDeque<oneshot::Sender<()>>>>,
    sweep_at: watch::Sender<Option<Timestamp>>,
    cancels: mpsc::Sender<CancelSignal>,
    waiting: Mutex<HashMap<TaskId, Arc<Notify>>>,
    news: Notify,
    /// How many bytes of events this process has written.
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

    /// Publishes the effects of a commit. Only the writer calls it, in the order of its commits.
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

    /// Wakes the requests and watchers that wait for one of these tasks, since it has changed.
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

    /// How many bytes of events this process has written; the receiver sees the number grow.
    pub(super) fn news_bytes(&self) -> watch::Receiver<u64> {
        self.news_bytes.subscribe()
    }

    /// Wakes everything that waits, since signals may have been missed.
    pub(super) fn tell_everybody(&self) {
        self.tell_work(&Work { everybody: true, ..Work::default() });
        for waiting in locked(&self.waiting).values() {
            waiting.notify_waiters();
        }
        self.tell_news();
    }

    /// Returns once there may be work for the dispatcher that was not there at the last call.
    pub(super) async fn work(&self) {
        self.work.notified().await;
    }

    pub(super) fn wake_dispatcher(&self) {
        self.work.notify_one();
    }

    /// Takes a place in the line of an executor's idle workers. It has to be taken before looking
    /// for tasks, so that a task that comes in between is not missed.
    pub(super) fn idle(self: &Arc<Self>, executor: ExecutorId) -> Place {
        let (sender, receiver) = oneshot::channel();
        let mut idle = locked(&self.idle);
        let line = idle.entry(executor).or_default();
        // Requests that have ended must not fill the line.
        line.retain(|waiting| !waiting.is_closed());
        line.push_back(sender);
        Place { signals: Arc::clone(self), executor, called: receiver }
    }

    /// The sweep's alarm: the time at which it has to look, as far as is known.
    pub(super) fn alarm(&self) -> watch::Receiver<Option<Timestamp>> {
        self.sweep_at.subscribe()
    }

    /// Sets the sweep's alarm. Commits have to come here in their order: the result of a sweep
    /// replaces the time, and a commit after it may make it earlier again.
    fn set_alarm(&self, effects: &Effects) {
        self.sweep_at.send_if_modified(|known| {
            let before = if effects.swept { None } else { *known };
            let soonest = before.into_iter().chain(effects.sweep_at).min();
            let changed = soonest != *known;
            *known = soonest;
            changed
        });
    }

    /// A handle that is notified when the task ends, and also when it changes while events are
    /// being read. The last waiter removes the task from the map.
    pub(super) fn ending(self: &Arc<Self>, id: TaskId) -> Ending {
        let mut waiting = locked(&self.waiting);
        let notify = Arc::clone(waiting.entry(id).or_default());
        Ending { signals: Arc::clone(self), id, notify }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes up to `count` of the workers that still wait, and returns the rest of the line.
fn wake(mut line: VecDeque<oneshot::Sender<()>>, count: u32) -> VecDeque<oneshot::Sender<()>> {
    let mut left = count;
    while left > 0 {
        let Some(waiting) = line.pop_front() else { break };
        // A request that has ended does not count.
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
    /// A future that is notified of the next change. It has to be polled or enabled before the
    /// caller looks at the task, so that an end in between is not missed.
    pub(super) fn notified(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let mut waiting = locked(&self.signals.waiting);
        // Two are the map's and this one, so no other waiter is left. The map is locked, so none
        // comes now.
        if Arc::strong_count(&self.notify) <= 2 {
            waiting.remove(&self.id);
        }
    }
}

/// A place in a line of idle workers. If it is called after its worker has left or has found other
/// tasks, the next in line is called instead.
pub(super) struct Place {
    signals: Arc<Signals>,
    executor: ExecutorId,
    called: oneshot::Receiver<()>,
}

impl Place {
    pub(super) async fn called(&mut self) {
        // An error means that the line is gone. That happens only after all places in it were
        // called.
        (&mut self.called).await.ok();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Closed before the look: a call now either is seen here, or fails and goes to the next in
        // line.
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
