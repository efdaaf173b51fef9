//! Time is read through a [`Clock`] only, so that tests can set it and let it pass.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::domain::Timestamp;

/// The time of day, in whole microseconds, and the time that has passed.
///
/// The time of day may be set to another value at any moment. Therefore durations are measured by
/// [`Clock::elapsed`], which only moves forward; `now` is used for events that happen at a time of
/// day.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time of day in UTC.
    fn now(&self) -> Timestamp;

    /// How much time has passed since this clock was made, by the monotonic clock.
    fn elapsed(&self) -> Duration;

    /// The same as `elapsed`, to notice that this process stood still. [`ManualClock`] has another
    /// value: its time jumps, which must not look like a standstill unless the test says so.
    fn pulse(&self) -> Duration {
        self.elapsed()
    }

    /// Sets this clock by the time of a database that several processes share, so that all of them
    /// agree. Returns the time that holds from now on.
    fn agree(&self, _shared: Timestamp) -> Timestamp {
        self.now()
    }

    /// Returns once `now()` is at or past `deadline`.
    async fn sleep_until(&self, deadline: Timestamp);

    /// Returns once `duration` has passed.
    async fn sleep(&self, duration: Duration);
}

/// `start + duration`, or the latest possible time if that is too late.
pub fn later(start: Timestamp, duration: Duration) -> Timestamp {
    start.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

fn whole_microseconds(instant: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(instant.as_microsecond()).unwrap_or(instant)
}

/// The machine's clock, or the database's clock if several processes share the database.
#[derive(Clone, Debug)]
pub struct SystemClock {
    began: Instant,
    /// The shared clock's time at the moment when this clock was made, once `agree` was called.
    origin: Arc<Mutex<Option<Timestamp>>>,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { began: Instant::now(), origin: Arc::default() }
    }
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where time comes in")]
    fn machine() -> Timestamp {
        whole_microseconds(Timestamp::now())
    }

    fn origin(&self) -> MutexGuard<'_, Option<Timestamp>> {
        self.origin.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let origin = *self.origin();
        // The database's time is advanced by the monotonic clock, so changes of the machine's time
        // of day have no effect on it.
        origin
            .map_or_else(Self::machine, |origin| whole_microseconds(later(origin, self.elapsed())))
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn agree(&self, shared: Timestamp) -> Timestamp {
        *self.origin() = shared.checked_sub(self.elapsed()).ok();
        shared
    }

    async fn sleep_until(&self, deadline: Timestamp) {
        // Sleep in short steps, so that a change of the time of day is noticed.
        const STEP_MAX: Duration = Duration::from_secs(1);
        loop {
            let left = deadline.duration_since(self.now());
            match Duration::try_from(left) {
                Ok(left) if !left.is_zero() => tokio::time::sleep(left.min(STEP_MAX)).await,
                _ => return,
            }
        }
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// A clock for tests, which stands still until it is moved.
#[derive(Clone, Debug)]
pub struct ManualClock(watch::Sender<Hands>);

#[derive(Clone, Copy, Debug)]
struct Hands {
    now: Timestamp,
    elapsed: Duration,
    pulse: Duration,
}

impl ManualClock {
    pub fn new(start: Timestamp) -> Self {
        let now = whole_microseconds(start);
        Self(watch::Sender::new(Hands { now, elapsed: Duration::ZERO, pulse: Duration::ZERO }))
    }

    /// Lets time pass. Tasks that sleep until then wake up.
    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|hands| {
            hands.now = later(hands.now, by);
            hands.elapsed += by;
        });
    }

    /// Lets time pass, as if the process had stood still meanwhile.
    pub fn stand_still(&self, by: Duration) {
        self.0.send_modify(|hands| {
            hands.now = later(hands.now, by);
            hands.elapsed += by;
            hands.pulse += by;
        });
    }

    /// Changes the time of day without letting time pass.
    pub fn set(&self, now: Timestamp) {
        self.0.send_modify(|hands| hands.now = whole_microseconds(now));
    }

    /// Returns once the hands of the clock meet the condition.
    async fn wait_for(&self, there: impl FnMut(&Hands) -> bool + Send) {
        if self.0.subscribe().wait_for(there).await.is_err() {
            // The clock is gone, so its time does not go on.
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.0.borrow().now
    }

    fn elapsed(&self) -> Duration {
        self.0.borrow().elapsed
    }

    fn pulse(&self) -> Duration {
        self.0.borrow().pulse
    }

    async fn sleep_until(&self, deadline: Timestamp) {
        self.wait_for(|hands| hands.now >= deadline).await;
    }

    async fn sleep(&self, duration: Duration) {
        let until = self.elapsed() + duration;
        self.wait_for(|hands| hands.elapsed >= until).await;
    }
}
