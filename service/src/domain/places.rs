//! How many plugins one process runs at once, and which executor may begin another run. Runs are
//! limited by their number and by the sum of their memory.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::executor::ExecutorId;

/// An executor may hold at most this many times what is left for the others.
const SHARE: u64 = 3;

/// The free places for runs of plugins, and how many each executor holds.
///
/// A run cannot be moved or stopped to make room, so an executor that held all places could keep
/// the others waiting for any length of time. Therefore each executor has to leave a part: alone it
/// may take three quarters of the places, the next one three quarters of the rest, and so on.
#[derive(Clone, Debug, Default)]
pub struct Places {
    free: Amount,
    all_mib: u64,
    held: HashMap<ExecutorId, Amount>,
    /// How often a place was given back. Tells a claim whether its copy is out of date.
    returns: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    runs: u64,
    mib: u64,
}

impl Places {
    pub fn new(runs: u32, mib: u32) -> Self {
        let free = Amount { runs: runs.into(), mib: mib.into() };
        Self { free, all_mib: mib.into(), held: HashMap::new(), returns: 0 }
    }

    /// How many more runs an executor may begin, with `mib` of memory each.
    pub fn room(&self, executor: ExecutorId, mib: u32) -> u32 {
        let held = self.held.get(&executor).copied().unwrap_or_default();
        let mib = self.counted(mib);
        let of_memory = share(held.mib, self.free.mib).checked_div(mib).unwrap_or(u64::MAX);
        let room = share(held.runs, self.free.runs).min(of_memory);
        // An executor without any run may use even the last free place.
        let first = held.runs == 0 && self.free.runs > 0 && self.free.mib >= mib;
        u32::try_from(room.max(first.into())).unwrap_or(u32::MAX)
    }

    /// An executor begins `runs` runs.
    pub fn take(&mut self, executor: ExecutorId, mib: u32, runs: u32) {
        let taken = self.amount(mib, runs);
        let held = self.held.entry(executor).or_default();
        *held = Amount { runs: held.runs + taken.runs, mib: held.mib + taken.mib };
        self.free = self.free.less(taken);
    }

    /// One of its runs has ended.
    pub fn give_back(&mut self, executor: ExecutorId, mib: u32) {
        let given = self.amount(mib, 1);
        if let Some(held) = self.held.get_mut(&executor) {
            *held = held.less(given);
            if held.runs == 0 {
                self.held.remove(&executor);
            }
        }
        self.free = Amount { runs: self.free.runs + given.runs, mib: self.free.mib + given.mib };
        self.returns += 1;
    }

    fn amount(&self, mib: u32, runs: u32) -> Amount {
        Amount { runs: runs.into(), mib: self.counted(mib) * u64::from(runs) }
    }

    /// The MiB that a run counts for. A run that may use more memory than all runs together counts
    /// as 0, so that it gets a place; the sandbox then reports why it cannot run.
    fn counted(&self, mib: u32) -> u64 {
        Some(mib.into()).filter(|mib| *mib <= self.all_mib).unwrap_or(0)
    }
}

impl Amount {
    fn less(self, other: Self) -> Self {
        let runs = self.runs.saturating_sub(other.runs);
        Self { runs, mib: self.mib.saturating_sub(other.mib) }
    }
}

/// How many more of the free places an executor that holds `held` may take, so that afterwards it
/// holds no more than `SHARE` times what is left.
fn share(held: u64, free: u64) -> u64 {
    (SHARE * free).saturating_sub(held) / (SHARE + 1)
}

/// The places for plugins as a claim of the dispatcher sees them, and the claim's note that it had
/// too few.
#[derive(Clone, Debug, Default)]
pub struct PluginRoom {
    pub places: Places,
    /// Set by the claim if an executor could have begun more runs with more places. Shared with the
    /// dispatcher's clone, since the claim runs in the writer thread.
    short: Arc<AtomicBool>,
}

impl PluginRoom {
    pub fn new(places: Places) -> Self {
        Self { places, short: Arc::default() }
    }

    pub fn was_short(&self) {
        self.short.store(true, Ordering::Relaxed);
    }

    /// Whether the dispatcher has to claim again once there are more places.
    pub fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed)
    }

    /// Whether places were given back since this copy was made.
    pub fn is_outdated(&self, now: &Places) -> bool {
        self.places.returns != now.returns
    }
}

#[cfg(test)]
mod tests {
    use super::{ExecutorId, Places};

    const A: ExecutorId = ExecutorId(1);
    const B: ExecutorId = ExecutorId(2);
    const C: ExecutorId = ExecutorId(3);

    #[test]
    fn something_is_left_for_others() {
        let mut places = Places::new(64, 100_000);
        assert_eq!(places.room(A, 1), 48);
        places.take(A, 1, 48);
        assert_eq!((places.room(A, 1), places.room(B, 1)), (0, 12));
        places.take(B, 1, 12);
        assert_eq!((places.room(B, 1), places.room(C, 1)), (0, 3));
        for _ in 0..48 {
            places.give_back(A, 1);
        }
        assert_eq!((places.room(B, 1), places.room(C, 1)), (36, 39));
    }

    #[test]
    fn the_last_place_is_for_whoever_has_none() {
        let mut places = Places::new(1, 100);
        assert_eq!(places.room(A, 100), 1);
        places.take(A, 100, 1);
        assert_eq!((places.room(A, 1), places.room(B, 1)), (0, 0));
    }

    #[test]
    fn memory_is_shared_likewise() {
        let mut places = Places::new(64, 512);
        assert_eq!(places.room(A, 128), 3);
        places.take(A, 128, 3);
        assert_eq!((places.room(A, 128), places.room(B, 128), places.room(B, 129)), (0, 1, 0));
        places.take(B, 128, 1);
        assert_eq!((places.room(C, 1), places.room(B, 128)), (0, 0));
        places.give_back(A, 128);
        assert_eq!((places.room(A, 128), places.room(C, 128)), (0, 1));
    }

    #[test]
    fn who_may_have_more_than_there_is_hears_so_from_the_sandbox() {
        let mut places = Places::new(4, 512);
        assert_eq!(places.room(A, 513), 3);
        places.take(A, 513, 3);
        assert_eq!(places.room(B, 512), 1);
    }
}
