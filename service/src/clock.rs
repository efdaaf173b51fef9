//! Time comes in through a [`Clock`], so that tests move it by hand.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::SignedDuration;
use tokio::sync::watch;

use crate::domain::Timestamp;

/// What time it is, in whole microseconds, and when it will be later.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync {
    fn now(&self) -> Timestamp;

    /// Takes over the time of a database that several processes share, so that all of them
    /// agree, and returns the time that holds now.
    fn agree(&self, _shared: Timestamp) -> Timestamp {
        self.now()
    }

    /// Returns once `now()` is at or past `deadline`.
    async fn sleep_until(&self, deadline: Timestamp);

    /// Returns once `duration` has passed.
    async fn sleep(&self, duration: Duration) {
        self.sleep_until(later(self.now(), duration)).await;
    }
}

/// `start + duration`, or the end of time.
pub fn later(start: Timestamp, duration: Duration) -> Timestamp {
    start.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

fn whole_microseconds(instant: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(instant.as_microsecond()).unwrap_or(instant)
}

/// The machine's clock, corrected by the database's where that is shared.
#[derive(Clone, Debug, Default)]
pub struct SystemClock {
    /// Microseconds to add.
    correction: Arc<AtomicI64>,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where time comes in")]
    fn machine() -> Timestamp {
        whole_microseconds(Timestamp::now())
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let correction = SignedDuration::from_micros(self.correction.load(Ordering::Relaxed));
        let machine = Self::machine();
        machine.saturating_add(correction).unwrap_or(machine)
    }

    fn agree(&self, shared: Timestamp) -> Timestamp {
        let correction = shared.as_microsecond() - Self::machine().as_microsecond();
        self.correction.store(correction, Ordering::Relaxed);
        shared
    }

    async fn sleep_until(&self, deadline: Timestamp) {
        // Sleeps are short, so that a clock that was set is noticed.
        const STEP_MAX: Duration = Duration::from_secs(30);
        loop {
            let left = deadline.duration_since(self.now());
            match Duration::try_from(left) {
                Ok(left) if !left.is_zero() => tokio::time::sleep(left.min(STEP_MAX)).await,
                _ => return,
            }
        }
    }
}

/// A clock that stands still until it is moved.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<watch::Sender<Timestamp>>>);

impl ManualClock {
    pub fn new(start: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(watch::Sender::new(whole_microseconds(start)))))
    }

    /// Moves the clock; everybody who sleeps until then wakes up.
    pub fn advance(&self, by: Duration) {
        self.sender(|sender| sender.send_modify(|now| *now = later(*now, by)));
    }

    fn sender<T>(&self, use_it: impl FnOnce(&watch::Sender<Timestamp>) -> T) -> T {
        use_it(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.sender(|sender| *sender.borrow())
    }

    async fn sleep_until(&self, deadline: Timestamp) {
        let mut now = self.sender(watch::Sender::subscribe);
        if now.wait_for(|now| *now >= deadline).await.is_err() {
            // The clock is gone, and time with it.
            std::future::pending::<()>().await;
        }
    }
}
