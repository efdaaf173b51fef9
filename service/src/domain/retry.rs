//! How long to wait between attempts ([`Backoff`]), and the check of timeouts.

use std::time::Duration;

use super::{
    Invalid,
    limits::{BACKOFF_FACTOR_MAX, DURATION_MAX},
};

/// How long a task waits between attempts: `initial` after the first failure, then `factor` times
/// as long after each further one, at most `max`. Then the wait is changed at random, by up to the
/// fraction `jitter` of it in either direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    pub initial: Duration,
    pub factor: f64,
    pub max: Duration,
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(5),
            factor: 2.0,
            max: Duration::from_hours(1),
            jitter: 0.2,
        }
    }
}

impl Backoff {
    /// Checks values from outside. Each one that is left out has its default.
    pub fn new(
        initial_seconds: Option<f64>,
        factor: Option<f64>,
        max_seconds: Option<f64>,
        jitter: Option<f64>,
    ) -> Result<Self, Invalid> {
        let default = Self::default();
        let within = |field, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                Ok(value)
            } else {
                Err(Invalid::new(field, format!("must be {low} to {high}")))
            }
        };
        let duration_max = DURATION_MAX.as_secs_f64();
        let seconds = |field, given: Option<f64>, default: Duration| match given {
            Some(value) => within(field, value, 0.0, duration_max).map(Duration::from_secs_f64),
            None => Ok(default),
        };
        Ok(Self {
            initial: seconds("backoff/initial_seconds", initial_seconds, default.initial)?,
            factor: within(
                "backoff/factor",
                factor.unwrap_or(default.factor),
                1.0,
                BACKOFF_FACTOR_MAX,
            )?,
            max: seconds("backoff/max_seconds", max_seconds, default.max)?,
            jitter: within("backoff/jitter", jitter.unwrap_or(default.jitter), 0.0, 1.0)?,
        })
    }

    /// The wait after the `failed`-th failure in a row, counted from 1. `chance` is a random number
    /// between 0 and 1 that chooses the wait within its jitter.
    pub fn delay(&self, failed: u32, chance: f64) -> Duration {
        let exponent = i32::try_from(failed.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.initial.as_secs_f64() * self.factor.powi(exponent);
        let capped = grown.min(self.max.as_secs_f64());
        let spread = 1.0 + self.jitter * (2.0 * chance - 1.0);
        Duration::from_secs_f64((capped * spread).clamp(0.0, DURATION_MAX.as_secs_f64() * 2.0))
    }
}

/// Checks a timeout from outside, in seconds.
pub fn timeout(seconds: f64) -> Result<Duration, Invalid> {
    if seconds > 0.0 && seconds <= DURATION_MAX.as_secs_f64() {
        // The store keeps microseconds, so a smaller timeout would be stored as 0.
        return Ok(Duration::from_secs_f64(seconds).max(Duration::from_micros(1)));
    }
    Err(Invalid::new(
        "timeout_seconds",
        format!("must be above 0 and at most {}", DURATION_MAX.as_secs()),
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Backoff, timeout};

    #[test]
    fn the_delay_doubles_up_to_its_cap() {
        let backoff = Backoff { jitter: 0.0, ..Backoff::default() };
        let seconds = |n| backoff.delay(n, 0.5).as_secs();
        assert_eq!((seconds(1), seconds(2), seconds(3)), (5, 10, 20));
        assert_eq!((seconds(11), seconds(u32::MAX)), (3600, 3600));
    }

    #[test]
    fn b81_jitter_spreads_the_delay_by_a_fifth_either_way() {
        let backoff = Backoff::default();
        assert_eq!(backoff.delay(1, 0.0), Duration::from_secs(4));
        assert_eq!(backoff.delay(1, 1.0), Duration::from_secs(6));
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert!(Backoff::new(Some(-1.0), None, None, None).is_err());
        assert!(Backoff::new(Some(f64::NAN), None, None, None).is_err());
        assert!(Backoff::new(None, Some(0.5), None, None).is_err());
        assert!(Backoff::new(None, None, None, Some(1.5)).is_err());
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 604_801.0] {
            assert!(timeout(bad).is_err(), "{bad}");
        }
    }
}
