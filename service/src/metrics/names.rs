//! Limits how many different label values clients can cause.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
};

use super::NAMES_MAX;

/// Names that clients chose and that are used as labels. Only the first `NAMES_MAX` names are kept,
/// since each name costs memory here and in Prometheus; all others are counted as `other`.
#[derive(Debug, Default)]
pub(super) struct Names(RwLock<HashSet<Arc<str>>>);

impl Names {
    const OTHER: &str = "other";

    /// All names that are kept.
    pub(super) fn known(&self) -> Vec<Arc<str>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The name, or `other` if it is new and there are too many already.
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
