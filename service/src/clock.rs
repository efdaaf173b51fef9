//! Time comes in through a [`Clock`], so that tests move it by hand.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::domain::Timestamp;

/// What time it is, in whole microseconds, and how much of it passes.
///
/// The time of day may be set by somebody at any moment. Durations are measured by
/// [`Clock::elapsed`], which nobody sets; only an event at a time of day waits for that.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync {
    fn now(&self) -> Timestamp;

    /// How much time has passed since this clock began.
    fn elapsed(&self) -> Duration;

    /// The same, to notice that this process stood still. A clock that is moved by hand moves in
    /// leaps, in which nothing stood still unless the test says so.
    fn pulse(&self) -> Duration {
        self.elapsed()
    }

    /// Takes over the time of a database that several processes share, so that all of them
    /// agree, and returns the time that holds now.
    fn agree(&self, _shared: Timestamp) -> Timestamp {
        self.now()
    }

    /// Returns once `now()` is at or past `deadline`.
    async fn sleep_until(&self, deadline: Timestamp);

    /// Returns once `duration` has passed.
    async fn sleep(&self, duration: Duration);
}

/// `start + duration`, or the end of time.
pub fn later(start: Timestamp, duration: Duration) -> Timestamp {
    start.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

fn whole_microseconds(instant: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(instant.as_microsecond()).unwrap_or(instant)
}

/// The machine's clock, or the database's where that is shared.
#[derive(Clone, Debug)]
pub struct SystemClock {
    began: Instant,
    /// What the shared clock showed when this one began, once it was asked.
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
        // The database's time goes on by itself, whatever becomes of the machine's own time.
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
        // Sleeps are short, so that a clock that was set is noticed.
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

/// A clock that stands still until it is moved.
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

    /// Time passes; everybody who sleeps until then wakes up.
    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|hands| {
            hands.now = later(hands.now, by);
            hands.elapsed += by;
        });
    }

    /// Time passes, and the process stands still meanwhile.
    pub fn stand_still(&self, by: Duration) {
        self.0.send_modify(|hands| {
            hands.now = later(hands.now, by);
            hands.elapsed += by;
            hands.pulse += by;
        });
    }

    /// Somebody sets the time of day, and no time passes.
    pub fn set(&self, now: Timestamp) {
        self.0.send_modify(|hands| hands.now = whole_microseconds(now));
    }

    /// Returns once the hands are where `there` wants them.
    async fn wait_for(&self, there: impl FnMut(&Hands) -> bool + Send) {
        if self.0.subscribe().wait_for(there).await.is_err() {
            // The clock is gone, and time with it.
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
