//! The circuit breaker of an executor: when to send it no tasks, and when to try it again.

use std::time::Duration;

use super::{Timestamp, limits::RETRY_AFTER_MAX};

/// Whether tasks are delivered to an executor (a circuit breaker).
///
/// It opens when a delivery fails: no task is sent for some time, which grows with each failure in
/// a row. Then tasks are sent one at a time, as probes. When the executor answers a probe,
/// deliveries go on as usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circuit {
    /// How many deliveries have failed in a row.
    pub failures: u32,
    /// When the last of these failures happened.
    pub failed_at: Option<Timestamp>,
    /// Until then, no task is sent.
    pub held_until: Option<Timestamp>,
    pub reason: Option<String>,
}

impl Circuit {
    const HOLD_FIRST: Duration = Duration::from_millis(100);
    const HOLD_MAX: Duration = Duration::from_mins(1);

    pub fn is_open(&self, now: Timestamp) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    /// Whether a task that is sent now is a probe.
    pub fn is_probing(&self) -> bool {
        self.failures > 0
    }

    /// How many more tasks may be sent while `in_flight` run.
    pub fn room(&self, now: Timestamp, concurrency: Option<u32>, in_flight: u32) -> u32 {
        let room = concurrency.map_or(u32::MAX, |limit| limit.saturating_sub(in_flight));
        if self.is_open(now) {
            0
        } else if self.is_probing() {
            room.min(1)
        } else {
            room
        }
    }

    /// The circuit after a delivery failed that began at `started_at`. A delivery that was already
    /// on its way when the last failure happened says nothing new, so it does not count as one more
    /// in a row.
    #[must_use]
    pub fn after_failure(
        &self,
        now: Timestamp,
        started_at: Timestamp,
        reason: &str,
        retry_after: Option<Duration>,
    ) -> Self {
        let is_new = self.failed_at.is_none_or(|failed_at| failed_at < started_at);
        let mut after = self.clone();
        if is_new {
            after.failures = self.failures.saturating_add(1);
            after.failed_at = Some(now);
        }
        let hold = after.backoff().max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX));
        after.reason = Some(reason.to_owned());
        after.held_for(now, hold)
    }

    /// The circuit after a probe was sent. The next probe waits for the answer to this one, but at
    /// most for as long as a failure would have held it back.
    #[must_use]
    pub fn after_probe(&self, now: Timestamp) -> Self {
        self.clone().held_for(now, self.backoff())
    }

    fn backoff(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        (Self::HOLD_FIRST * (1 << doublings)).min(Self::HOLD_MAX)
    }

    fn held_for(mut self, now: Timestamp, hold: Duration) -> Self {
        let until = now.saturating_add(hold).unwrap_or(now);
        self.held_until = self.held_until.max(Some(until));
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Circuit, Timestamp};

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    fn failed(circuit: &Circuit, now: Timestamp, started_at: Timestamp) -> Circuit {
        circuit.after_failure(now, started_at, "refused", None)
    }

    #[test]
    fn b69_an_executor_that_says_later_is_left_alone_until_then() {
        let after = |seconds| START + Duration::from_secs(seconds);
        let retry_after = Some(Duration::from_secs(5));
        let open = Circuit::default().after_failure(START, START, "429", retry_after);
        assert_eq!(open.room(after(4), Some(50), 0), 0);
        assert_eq!(open.room(after(5), Some(50), 20), 1, "one probe, whatever runs besides");
        assert_eq!(open.room(after(5), Some(20), 20), 0);
        assert_eq!(open.after_probe(after(5)).room(after(5), Some(50), 21), 0, "no second one");
        assert_eq!(open.after_probe(after(5)).room(after(6), Some(50), 21), 1, "but later");
        assert_eq!(Circuit::default().room(after(5), Some(50), 20), 30);
    }

    #[test]
    fn the_hold_doubles_and_what_was_on_its_way_counts_once() {
        let first = failed(&Circuit::default(), START, START);
        assert_eq!(failed(&first, START, START).failures, 1);
        let mut circuit = first;
        for _ in 0..20 {
            let now = circuit.held_until.unwrap();
            circuit = failed(&circuit.after_probe(now), now, now);
            assert!(circuit.held_until.unwrap().duration_since(now).as_secs() <= 60);
        }
        assert_eq!(circuit.failures, 21);
    }
}
