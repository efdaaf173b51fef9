//! The room that this process has for calls and plugin runs: permits for attempts, places for
//! plugins, and memory for inputs. The dispatcher claims no more tasks than all three allow.

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

/// The three limits on attempts that this process runs at once.
#[derive(Clone)]
pub struct Capacity {
    /// One for each attempt. The dispatcher takes them, and the end of the attempt gives them back.
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

    /// Why a call of this executor with inputs of `bytes` could not begin now. `None` if it could,
    /// or if the executor's workers ask for their tasks themselves.
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
