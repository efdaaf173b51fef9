//! The connections and threads that all runs of one executor share, and that no other executor can
//! use. So an executor cannot read answers for another one, nor block its threads.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    network::Network,
    waiters::{Pool, Waiters},
};

/// How many executors keep their connections while they run nothing.
const KEPT_MAX: usize = 100;
/// How many system calls that may block are made at once, for file operations and for name lookups:
/// by all executors together, and by each of them.
pub(crate) const FILE_CALLS_MAX: usize = 128;
pub(crate) const NAME_CALLS_MAX: usize = 128;
const FILE_CALLS_EACH: usize = 8;
const NAME_CALLS_EACH: usize = 16;

/// The connections of one executor, and its threads for file operations.
pub(crate) struct Quarters {
    pub(crate) network: Network,
    pub(crate) files: Waiters,
}

impl Quarters {
    fn is_idle(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) == 1 && self.files.are_idle() && self.network.is_idle()
    }
}

/// The quarters of all executors.
pub(crate) struct House {
    files: Pool,
    names: Pool,
    quarters: Mutex<HashMap<Arc<str>, Arc<Quarters>>>,
}

impl House {
    pub(crate) fn new(files: Pool, names: Pool) -> Self {
        Self { files, names, quarters: Mutex::default() }
    }

    pub(crate) fn files(&self) -> &Pool {
        &self.files
    }

    pub(crate) fn names(&self) -> &Pool {
        &self.names
    }

    pub(crate) fn of(&self, executor: &str) -> Arc<Quarters> {
        let mut all = self.quarters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(quarters) = all.get(executor) {
            return Arc::clone(quarters);
        }
        // Quarters with calls that hang are not idle, so they are kept, and the calls stay counted.
        if all.len() >= KEPT_MAX {
            all.retain(|_, quarters| !quarters.is_idle());
        }
        let executor: Arc<str> = executor.into();
        let quarters = Arc::new(Quarters {
            network: Network::new(self.names.waiters(&executor, NAME_CALLS_EACH)),
            files: self.files.waiters(&executor, FILE_CALLS_EACH),
        });
        all.insert(executor, Arc::clone(&quarters));
        quarters
    }
}
