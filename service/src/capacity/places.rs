use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::{
    executor::{Executor, ExecutorId, Target},
    places::{Places, PluginRoom},
};

/// The places for plugins in this process. Only the dispatcher takes any, one claim at a time, so
/// that what a claim counts with is still there when it is done.
pub struct PluginPlaces(Mutex<Now>);

struct Now {
    places: Places,
    /// The last claim would have taken more.
    short: bool,
}

/// The place of one run.
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

    /// What a claim may count with.
    pub fn room(&self) -> PluginRoom {
        PluginRoom::new(self.now().places.clone())
    }

    /// A place for a task that was claimed with it, if its executor is a plugin.
    pub fn take(self: &Arc<Self>, executor: &Executor) -> Option<PluginPlace> {
        let Target::Wasm { memory_mib, .. } = executor.registration.target else {
            return None;
        };
        self.now().places.take(executor.id, memory_mib, 1);
        Some(PluginPlace { places: Arc::clone(self), executor: executor.id, memory_mib })
    }

    /// Whether a claim that had too little room would have more by now; if not, the next place
    /// that is given back says so.
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
    /// Says whether somebody waits for it.
    pub fn give_back(self) -> bool {
        let mut now = self.places.now();
        now.places.give_back(self.executor, self.memory_mib);
        std::mem::take(&mut now.short)
    }
}
