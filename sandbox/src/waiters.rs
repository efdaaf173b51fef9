//! Runs system calls that block their thread, such as file operations and name lookups.
//!
//! A file system or a name server may never answer. Such a call cannot be interrupted, and it keeps
//! its thread even after its caller has given up: it *hangs*. Therefore each executor may use only
//! a few threads at once, so that its hanging calls do not take the threads of other executors.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use thiserror::Error;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
};

/// How long a call waits for a place before it is refused because all calls hang. Calls whose runs
/// have just ended are about to end as well, and are no reason to refuse one.
const PATIENCE: Duration = Duration::from_millis(500);

/// The threads for one kind of calls, of all executors together.
#[derive(Clone)]
pub(crate) struct Pool {
    threads: Handle,
    calls: &'static str,
    places: Places,
}

/// The threads of a pool that one executor may use.
#[derive(Clone)]
pub(crate) struct Waiters {
    executor: Arc<str>,
    pool: Pool,
    places: Places,
}

/// A number of calls that may be made at once, and how many of them hang because their callers have
/// given up.
#[derive(Clone)]
struct Places {
    free: Arc<Semaphore>,
    max: usize,
    hung: Arc<AtomicUsize>,
}

/// A call was refused, because all calls that may be made at once hang.
#[derive(Clone, Debug, Error)]
#[error("{0}")]
pub(crate) struct Hung(String);

impl Pool {
    pub(crate) fn new(threads: Handle, calls: &'static str, max: usize) -> Self {
        Self { threads, calls, places: Places::new(max) }
    }

    /// How many calls hang.
    pub(crate) fn hung(&self) -> usize {
        self.places.hung()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.places.all_hang()
    }

    /// The threads of this pool for one executor.
    pub(crate) fn waiters(&self, executor: &Arc<str>, max: usize) -> Waiters {
        let (executor, pool) = (Arc::clone(executor), self.clone());
        Waiters { executor, pool, places: Places::new(max) }
    }
}

impl Waiters {
    /// Makes a call on another thread, once the executor and the pool have a place for it.
    ///
    /// The executor's place is taken first: an executor that has none must not hold a place of the
    /// pool while it waits.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Hung> {
        let places = tokio::select! {
            biased;
            places = async { (self.places.take().await, self.pool.places.take().await) } => places,
            hung = self.hopeless() => return Err(hung),
        };
        let (sender, answer) = oneshot::channel();
        let mut asking = Asking { waiters: self, answer };
        let hung = [Arc::clone(&self.places.hung), Arc::clone(&self.pool.places.hung)];
        self.pool.threads.spawn_blocking(move || {
            // A call that panics has ended, too.
            let answer = panic::catch_unwind(AssertUnwindSafe(call));
            // The caller has given up and counted this call as hanging. The call has ended, so it
            // hangs no longer.
            if sender.send(answer).is_err() {
                for hung in &hung {
                    hung.fetch_sub(1, Ordering::Relaxed);
                }
            }
            // Only now: a call that hangs keeps its places.
            drop(places);
        });
        let answer = (&mut asking.answer).await.ok().and_then(Result::ok);
        answer.ok_or_else(|| Hung("a call panicked".to_owned()))
    }

    /// Returns once no place can be expected, because all calls hang.
    async fn hopeless(&self) -> Hung {
        loop {
            tokio::time::sleep(PATIENCE).await;
            if let Err(hung) = self.check() {
                return hung;
            }
        }
    }

    /// An error if no call could be made before a hanging one ends.
    pub(crate) fn check(&self) -> Result<(), Hung> {
        let calls = self.pool.calls;
        if self.places.all_hang() {
            let max = self.places.max;
            return Err(Hung(format!(
                "{max} {calls} of the executor hang, and it may have no more"
            )));
        }
        if self.pool.is_full() {
            return Err(Hung(format!("{} {calls} of all plugins hang", self.pool.places.max)));
        }
        Ok(())
    }

    /// Whether the executor makes no calls. Then these threads can be replaced by new ones.
    pub(crate) fn are_idle(&self) -> bool {
        self.places.free.available_permits() == self.places.max
    }

    fn one_hangs(&self) {
        for (places, whose) in [(&self.places, &*self.executor), (&self.pool.places, "all plugins")]
        {
            if places.hung.fetch_add(1, Ordering::Relaxed) + 1 == places.max {
                tracing::error!(
                    executor = &*self.executor,
                    "all {} {} of {whose} hang: no more are made until one ends",
                    places.max,
                    self.pool.calls,
                );
            }
        }
    }
}

impl Places {
    fn new(max: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(max)), max, hung: Arc::default() }
    }

    async fn take(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.free).acquire_owned().await.ok()
    }

    fn hung(&self) -> usize {
        self.hung.load(Ordering::Relaxed)
    }

    fn all_hang(&self) -> bool {
        self.hung() >= self.max
    }
}

/// Waits for the answer to a call. If it is dropped before the answer has come, the call is counted
/// as hanging.
struct Asking<'a, T> {
    waiters: &'a Waiters,
    answer: oneshot::Receiver<std::thread::Result<T>>,
}

impl<T> Drop for Asking<'_, T> {
    fn drop(&mut self) {
        if self.answer.is_terminated() {
            return;
        }
        // Count first and close the channel then. In the other order, the thread could find the
        // channel closed and subtract this call before it is counted. If the answer was sent before
        // the channel was closed, the thread does not subtract it, so that is done here.
        self.waiters.one_hangs();
        self.answer.close();
        if self.answer.try_recv().is_ok() {
            for places in [&self.waiters.places, &self.waiters.pool.places] {
                places.hung.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use tokio::runtime::Handle;

    use super::{Pool, Waiters};

    /// Begins a call that ends when the sender is dropped, and gives up waiting for it.
    async fn leave_hanging(waiters: &Waiters) -> mpsc::SyncSender<()> {
        let (end, ended) = mpsc::sync_channel::<()>(1);
        let (announce, begun) = tokio::sync::oneshot::channel();
        let call = waiters.call(move || {
            announce.send(()).unwrap();
            // A message makes the call panic.
            ended.recv().expect_err("the end without a panic");
        });
        tokio::select! {
            biased;
            _ = call => panic!("it ended"),
            begun = begun => begun.unwrap(),
        }
        end
    }

    #[tokio::test]
    async fn whose_calls_all_hang_is_refused_and_others_are_not() {
        let pool = Pool::new(Handle::current(), "file operations", 3);
        let hanging = pool.waiters(&Arc::from("a"), 2);
        let other = pool.waiters(&Arc::from("b"), 2);
        let first = leave_hanging(&hanging).await;
        assert_eq!(hanging.call(|| 7).await.unwrap(), 7, "one thread is left");
        let second = leave_hanging(&hanging).await;
        let refused = hanging.call(|| 7).await.unwrap_err().to_string();
        assert_eq!(refused, "2 file operations of the executor hang, and it may have no more");
        assert_eq!((pool.hung(), pool.is_full()), (2, false));
        assert_eq!(other.call(|| 7).await.unwrap(), 7);

        let third = leave_hanging(&other).await;
        assert!(pool.is_full());
        let refused = other.call(|| 7).await.unwrap_err().to_string();
        assert_eq!(refused, "3 file operations of all plugins hang");

        drop((first, second, third));
        // A call gives its places back when it ends.
        let _all = hanging.pool.places.free.acquire_many(3).await.unwrap();
        assert_eq!((pool.hung(), hanging.are_idle(), other.are_idle()), (0, true, true));
    }

    #[tokio::test]
    async fn a_call_that_panics_hangs_no_longer() {
        let pool = Pool::new(Handle::current(), "file operations", 1);
        let waiters = pool.waiters(&Arc::from("a"), 1);
        leave_hanging(&waiters).await.send(()).unwrap();
        drop(pool.places.free.acquire().await.unwrap());
        assert_eq!(pool.hung(), 0);
        let refused = waiters.call(|| panic!("as a test wants it")).await.map(|()| 0).unwrap_err();
        assert_eq!(refused.to_string(), "a call panicked");
        assert_eq!(waiters.call(|| 7).await.unwrap(), 7);
    }
}
