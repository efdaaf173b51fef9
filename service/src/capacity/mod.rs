//! How much this process may run at once of what it calls itself.

mod places;

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::{
    domain::{
        executor::{Executor, Target},
        reason::Lack,
    },
    memory::Memory,
};

pub use places::{PluginPlace, PluginPlaces};

/// The room that this process has for calls.
#[derive(Clone)]
pub struct Capacity {
    pub permits: Arc<Semaphore>,
    pub places: Arc<PluginPlaces>,
    pub memory: Arc<Memory>,
}

impl Capacity {
    pub fn new(attempts_max: u32, places: Arc<PluginPlaces>, memory: Arc<Memory>) -> Self {
        let permits = usize::try_from(attempts_max).unwrap_or(Semaphore::MAX_PERMITS);
        let permits = Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        Self { permits, places, memory }
    }

    /// Why a call of this executor that carries so many bytes could not begin now.
    pub fn lack(&self, executor: &Executor, bytes: usize) -> Option<Lack> {
        let target = &executor.registration.target;
        if target.is_worker() {
            return None;
        }
        if self.permits.available_permits() == 0 {
            return Some(Lack::Attempts);
        }
        if let Target::Wasm { memory_mib, .. } = *target
            && self.places.room().places.room(executor.id, memory_mib) == 0
        {
            return Some(Lack::Places);
        }
        (!self.memory.calls.has_room(bytes)).then_some(Lack::Memory)
    }
}
