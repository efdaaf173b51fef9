//! Random numbers come from [`Entropy`] only, so that tests can repeat them with a seed.

use std::sync::{Mutex, PoisonError};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use uuid::Uuid;

use crate::domain::{Timestamp, task::TaskId};

/// Makes ids, lease secrets and jitter with a cryptographic generator (`ChaCha`) that is seeded
/// once.
#[derive(Debug)]
pub struct Entropy(Mutex<StdRng>);

impl Entropy {
    /// A generator seeded by the operating system.
    #[expect(clippy::disallowed_methods, reason = "this is where randomness comes in")]
    pub fn from_system() -> Self {
        Self(Mutex::new(StdRng::from_rng(&mut rand::rng())))
    }

    /// A generator that makes the same numbers for the same seed. For tests.
    pub fn from_seed(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        self.generator(RngExt::random)
    }

    /// A number from 0 to 1.
    pub fn chance(&self) -> f64 {
        self.generator(RngExt::random)
    }

    /// A number from 0 to `end - 1`, or 0 if `end` is 0.
    pub fn below(&self, end: usize) -> usize {
        if end == 0 { 0 } else { self.generator(|generator| generator.random_range(0..end)) }
    }

    /// A UUID of version 7. It begins with the time, so ids of about the same time are close
    /// together in an index.
    pub fn task_id(&self, now: Timestamp) -> TaskId {
        let milliseconds = u64::try_from(now.as_millisecond()).unwrap_or(0);
        TaskId(uuid::Builder::from_unix_timestamp_millis(milliseconds, &self.bytes()).into_uuid())
    }

    /// A random UUID (version 4).
    pub fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.bytes()).into_uuid()
    }

    fn generator<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
