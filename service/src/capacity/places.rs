//! The places for plugin runs, shared between the dispatcher, which takes them, and ended attempts,
//! which give them back. A claim counts with a copy of the places, so it may miss places that are
//! given back during it; the flag `short` and [`PluginPlaces::is_to_claim_again`] make sure that
//! such a place leads to another claim.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::{
    executor::{Executor, ExecutorId, Target},
    places::{Places, PluginRoom},
};

/// The places for plugins in this process. Only the dispatcher takes places, and it makes one claim
/// at a time, so the places that a claim counts with are still free when it is done.
pub struct PluginPlaces(Mutex<Now>);

struct Now {
    places: Places,
    /// The last claim had too few places, and the next place that is given back has to wake the
    /// dispatcher.
    short: bool,
}

/// The place of one run. Give it back with [`PluginPlace::give_back`] when the run has ended.
#[must_use]
pub struct PluginPlace {
    places: Arc<PluginPlaces>,
    executor: ExecutorId,
    memory_mib: u32,
}

impl PluginPlaces {
    pub fn new(runs_max: u32, memory_mib: u32) -> Arc<Self> {
        let places = Places::new(runs_max, memory_mib);
        Arc::new(Self(Mutex::new(Now { places, short: false })))
    }

    /// A copy of the places for a claim.
    pub fn room(&self) -> PluginRoom {
        PluginRoom::new(self.now().places.clone())
    }

    /// Takes the place of a claimed task, if its executor is a plugin.
    pub fn take(self: &Arc<Self>, executor: &Executor) -> Option<PluginPlace> {
        let Target::Wasm { memory_mib, .. } = executor.registration.target else {
            return None;
        };
        self.now().places.take(executor.id, memory_mib, 1);
        Some(PluginPlace { places: Arc::clone(self), executor: executor.id, memory_mib })
    }

    /// Whether a claim that had too few places would find more of them by now. If not, the next
    /// place that is given back wakes the dispatcher.
    ///
    /// Both happen under one lock: a place is given back either before, and is noticed here, or
    /// after, and finds `short` set.
    pub fn is_to_claim_again(&self, had: &PluginRoom) -> bool {
        let mut now = self.now();
        let outdated = had.is_outdated(&now.places);
        now.short = had.is_short() && !outdated;
        had.is_short() && outdated
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PluginPlace {
    /// Gives the place back. Returns whether the dispatcher waits for one and has to be woken.
    pub fn give_back(self) -> bool {
        let mut now = self.places.now();
        now.places.give_back(self.executor, self.memory_mib);
        std::mem::take(&mut now.short)
    }
}
