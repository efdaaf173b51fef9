use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
};

use super::NAMES_MAX;

/// Names that clients chose, as labels: as many as there is room for, in the order of coming.
#[derive(Debug, Default)]
pub(super) struct Names(RwLock<HashSet<Arc<str>>>);

impl Names {
    const OTHER: &str = "other";

    /// All that have come.
    pub(super) fn known(&self) -> Vec<Arc<str>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The name, or `other` if there are too many already.
    pub(super) fn bounded(&self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(known);
        }
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= NAMES_MAX {
            return Self::OTHER.into();
        }
        let name: Arc<str> = name.into();
        names.insert(Arc::clone(&name));
        name
    }
}
