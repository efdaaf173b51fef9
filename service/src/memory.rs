//! Room in memory for what is large: bodies that come in, answers until they are sent, and what
//! calls under way carry. Room for each is taken before it is made, so that the service
//! stays within `payload_memory_mib` whoever asks for how much at once.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A large payload lies in memory so often while it is read or written: as it came, as what it
/// means, and as it goes on.
pub const COPIES: usize = 3;
/// What a task takes beside its texts.
pub const TASK_BYTES: usize = 2 * 1024;

const KIB: usize = 1024;
/// Of eight parts of the room, those for requests and for what calls answer; the rest is for what
/// calls carry. Apart, since none is to wait for the other: a client that sends bodies slowly would
/// keep tasks from starting, and calls that have begun would keep each other from ending.
const REQUEST_EIGHTHS: usize = 5;
const RETURN_EIGHTHS: usize = 1;
/// The part of the requests' room that only executors' reports get, without which attempts would
/// be lost.
const REPORTS_PART: usize = 8;

/// All room there is.
pub struct Memory {
    /// For bodies and answers.
    pub requests: Lane,
    /// For what attempts carry that this process runs.
    pub calls: Lane,
    /// For what executors answer.
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

    /// The MiB that are needed for payloads of so many bytes.
    pub fn mib_for(payload_bytes: usize) -> usize {
        let requests = payload_bytes.saturating_mul(COPIES) * REPORTS_PART / (REPORTS_PART - 1);
        (requests * 8 / REQUEST_EIGHTHS).div_ceil(KIB * KIB) + 1
    }
}

/// The room for one kind of thing, in KiB.
pub struct Lane {
    free: Arc<Semaphore>,
    kib_max: usize,
    kept_kib: usize,
    was_refused: AtomicBool,
}

impl Lane {
    fn new(kib_max: usize, kept_kib: usize) -> Self {
        let free = Arc::new(Semaphore::new(kib_max));
        Self { free, kib_max, kept_kib, was_refused: AtomicBool::new(false) }
    }

    /// Room for so many bytes, if there is as much. A share larger than all room takes all of it.
    pub fn take(&self, bytes: usize) -> Option<Share> {
        self.take_but(bytes, self.kept_kib).or_else(|| {
            // In this order: room given back from now on is given back after the mark.
            self.was_refused.store(true, Ordering::SeqCst);
            self.take_but(bytes, self.kept_kib)
        })
    }

    /// The same for what must not be turned away just when there is too much to do.
    pub fn take_urgent(&self, bytes: usize) -> Option<Share> {
        self.take_but(bytes, 0)
    }

    fn take_but(&self, bytes: usize, kept_kib: usize) -> Option<Share> {
        let kib = self.needed(bytes, kept_kib);
        if self.free.available_permits() < kib + kept_kib {
            return None;
        }
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        Arc::clone(&self.free).try_acquire_many_owned(kib).ok().map(Share)
    }

    /// Waits for room, in the order of those who ask.
    pub async fn wait_for(&self, bytes: usize) -> Option<Share> {
        let kib = u32::try_from(self.needed(bytes, 0)).unwrap_or(u32::MAX);
        Arc::clone(&self.free).acquire_many_owned(kib).await.ok().map(Share)
    }

    /// Whether so many bytes could be taken now.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.free.available_permits() >= self.kept_kib + self.needed(bytes, self.kept_kib)
    }

    /// The KiB that so many bytes take, where some are kept.
    fn needed(&self, bytes: usize, kept_kib: usize) -> usize {
        (bytes / KIB + 1).min(self.kib_max - kept_kib)
    }

    /// How much of it is taken.
    pub fn bytes_taken(&self) -> usize {
        (self.kib_max - self.free.available_permits()) * KIB
    }

    pub fn bytes_max(&self) -> usize {
        self.kib_max * KIB
    }

    /// Whether there was no room for somebody since this was asked last: the code that gives room
    /// back then has to say so.
    pub fn was_refused(&self) -> bool {
        self.was_refused.swap(false, Ordering::SeqCst)
    }
}

/// Room that somebody has until it is dropped.
#[derive(Debug)]
pub struct Share(OwnedSemaphorePermit);

impl Share {
    pub fn bytes(&self) -> usize {
        self.0.num_permits() * KIB
    }

    /// Gives back what is beyond so many bytes.
    pub fn shrink(&mut self, bytes: usize) {
        let beyond = self.0.num_permits().saturating_sub(bytes / KIB + 1);
        drop(self.0.split(beyond));
    }

    /// Adds another share of the same lane.
    pub fn join(&mut self, other: Self) {
        self.0.merge(other.0);
    }
}

/// Something with the room that it takes.
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
