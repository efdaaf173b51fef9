//! A budget for large pieces of memory: request bodies, answers until they are sent, and inputs of
//! running calls.
//!
//! Each of them takes its share of the budget before its memory is allocated. So the service stays
//! within `payload_memory_mib`, however many clients send or ask for much at the same time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How often a large payload is in memory while it is read or written: as it was received, as the
/// value that it means, and in the form in which it is passed on.
pub const COPIES: usize = 3;
/// Bytes that a task takes in addition to its texts.
pub const TASK_BYTES: usize = 2 * 1024;

const KIB: usize = 1024;
/// The budget is divided into eight parts: this many for requests, and this many for the answers of
/// calls. The rest is for the inputs of calls.
///
/// The three are separate so that none of them waits for another. In one common budget, a client
/// that sends bodies slowly would keep tasks from starting, and calls under way would keep each
/// other from ending.
const REQUEST_EIGHTHS: usize = 5;
const RETURN_EIGHTHS: usize = 1;
/// One in this many parts of the requests' budget is only for reports of executors, since a report
/// that is refused could lose an attempt.
const REPORTS_PART: usize = 8;

/// The whole budget.
pub struct Memory {
    /// For request bodies and their answers.
    pub requests: Lane,
    /// For the inputs of attempts that this process runs.
    pub calls: Lane,
    /// For the answers of executors.
    pub returns: Lane,
}

impl Memory {
    pub fn new(mib: usize) -> Self {
        let kib = mib.saturating_mul(KIB).min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        let (requests, returns) = (kib / 8 * REQUEST_EIGHTHS, kib / 8 * RETURN_EIGHTHS);
        Self {
            requests: Lane::new(requests, requests / REPORTS_PART),
            calls: Lane::new(kib - requests - returns, 0),
            returns: Lane::new(returns, 0),
        }
    }

    /// How many MiB `payload_memory_mib` must be at least, so that a payload of this size fits.
    pub fn mib_for(payload_bytes: usize) -> usize {
        let requests = payload_bytes.saturating_mul(COPIES) * REPORTS_PART / (REPORTS_PART - 1);
        (requests * 8 / REQUEST_EIGHTHS).div_ceil(KIB * KIB) + 1
    }
}

/// The budget for one of the three purposes, in KiB.
pub struct Lane {
    free: Arc<Semaphore>,
    kib_max: usize,
    /// Only urgent requests may take these.
    kept_kib: usize,
    /// Set when a request for room was refused, so that the code that gives room back wakes the
    /// task that waits for it.
    was_refused: AtomicBool,
}

impl Lane {
    fn new(kib_max: usize, kept_kib: usize) -> Self {
        let free = Arc::new(Semaphore::new(kib_max));
        Self { free, kib_max, kept_kib, was_refused: AtomicBool::new(false) }
    }

    /// Takes room for `bytes` if there is enough. A payload larger than the whole lane takes all of
    /// it.
    pub fn take(&self, bytes: usize) -> Option<Share> {
        self.take_but(bytes, self.kept_kib).or_else(|| {
            // Set the mark first and then try again: room that is given back before the mark is
            // found by this second try, and later `was_refused` finds the mark.
            self.was_refused.store(true, Ordering::SeqCst);
            self.take_but(bytes, self.kept_kib)
        })
    }

    /// Like `take`, but may also use the room that is kept for urgent requests. For reports that
    /// must not be refused just because there is too much to do.
    pub fn take_urgent(&self, bytes: usize) -> Option<Share> {
        self.take_but(bytes, 0)
    }

    fn take_but(&self, bytes: usize, kept_kib: usize) -> Option<Share> {
        let kib = self.needed(bytes, kept_kib);
        // Looking and taking are two steps, so calls at the same moment may together use a little
        // of the kept room. The semaphore itself never gives more than there is.
        if self.free.available_permits() < kib + kept_kib {
            return None;
        }
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        Arc::clone(&self.free).try_acquire_many_owned(kib).ok().map(Share)
    }

    /// Waits for room. Callers get it in the order in which they asked.
    pub async fn wait_for(&self, bytes: usize) -> Option<Share> {
        let kib = u32::try_from(self.needed(bytes, 0)).unwrap_or(u32::MAX);
        Arc::clone(&self.free).acquire_many_owned(kib).await.ok().map(Share)
    }

    /// Whether `bytes` could be taken at this moment.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.free.available_permits() >= self.kept_kib + self.needed(bytes, self.kept_kib)
    }

    /// The KiB that `bytes` take, if `kept_kib` cannot be used.
    fn needed(&self, bytes: usize, kept_kib: usize) -> usize {
        (bytes / KIB + 1).min(self.kib_max - kept_kib)
    }

    /// How many bytes are taken now.
    pub fn bytes_taken(&self) -> usize {
        (self.kib_max - self.free.available_permits()) * KIB
    }

    pub fn bytes_max(&self) -> usize {
        self.kib_max * KIB
    }

    /// Whether a request for room was refused since the last call. If so, the caller, which has
    /// just given room back, has to wake the task that waits for it.
    pub fn was_refused(&self) -> bool {
        self.was_refused.swap(false, Ordering::SeqCst)
    }
}

/// A share of the budget. Dropping it gives the room back.
#[derive(Debug)]
pub struct Share(OwnedSemaphorePermit);

impl Share {
    pub fn bytes(&self) -> usize {
        self.0.num_permits() * KIB
    }

    /// Gives back the room beyond `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        let beyond = self.0.num_permits().saturating_sub(bytes / KIB + 1);
        drop(self.0.split(beyond));
    }

    /// Adds another share of the same lane to this one.
    pub fn join(&mut self, other: Self) {
        self.0.merge(other.0);
    }
}

/// A value together with the room that it takes.
#[derive(Debug)]
pub struct Held<T> {
    pub value: T,
    pub share: Share,
}

#[cfg(test)]
mod tests {
    use super::{KIB, Lane, Memory};

    #[test]
    fn room_is_given_back_and_shared_out_no_further() {
        let lane = Lane::new(10, 2);
        let mut share = lane.take(7 * KIB).unwrap();
        assert!(lane.take(KIB).is_none(), "two are kept");
        assert!(lane.was_refused() && !lane.was_refused());
        assert!(lane.take_urgent(KIB).is_some());
        share.shrink(KIB);
        share.join(lane.take(KIB).unwrap());
        assert_eq!(share.bytes(), 4 * KIB);
        drop(share);
        let all = lane.take(usize::MAX / 2).unwrap();
        assert_eq!(all.bytes(), 8 * KIB, "what is larger than all goes alone");
    }

    #[test]
    fn the_room_that_is_needed_is_enough() {
        let payload = 64 * KIB * KIB;
        let memory = Memory::new(Memory::mib_for(payload));
        let kept = memory.requests.kept_kib;
        assert!(memory.requests.kib_max - kept >= payload * super::COPIES / KIB);
    }
}
