//! Bounds what one run takes in memory: the memories of the plugin, and what the host holds for it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use wasmtime::ResourceLimiter;

/// Bytes that one call may pass from the plugin to the host.
pub(crate) const PASSED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What one run may take, all together. (Wasmtime's own limits hold for each memory by itself.)
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    bytes: AtomicUsize,
    refused: AtomicBool,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, bytes: AtomicUsize::new(0), refused: AtomicBool::new(false) })
    }

    /// Whether the run has asked for more than it may have, and got nothing since.
    pub(crate) fn has_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Counts what the host is going to hold for the run, if it may have that much.
    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        self.take(bytes).then(|| Charge { budget: Arc::clone(self), bytes })
    }

    fn take(&self, more: usize) -> bool {
        let taken = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bytes| {
            bytes.checked_add(more).filter(|bytes| *bytes <= self.bytes_max)
        });
        // One that got something has coped with what was refused before.
        self.refused.store(taken.is_err(), Ordering::Relaxed);
        taken.is_ok()
    }
}

/// Memory of the host that counts against a run for as long as this lives.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    /// Whether so much more may be held as well.
    pub(crate) fn grow(&mut self, more: usize) -> bool {
        let taken = self.budget.take(more);
        if taken {
            self.bytes += more;
        }
        taken
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Asks the budget whenever a memory of the plugin is to grow.
#[derive(Debug)]
pub(crate) struct Limiter(pub(crate) Arc<Budget>);

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.0.take(desired.saturating_sub(current)))
    }

    /// The pool bounds tables.
    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::ResourceLimiter;

    use super::{Budget, Limiter};

    #[test]
    fn memories_and_what_the_host_holds_share_one_limit() {
        let budget = Budget::new(100);
        let mut limiter = Limiter(budget.clone());
        let mut grows = |from, to| limiter.memory_growing(from, to, None).unwrap();
        assert!(grows(0, 60), "one memory");
        assert!(grows(0, 20), "another");
        let mut held = budget.charge(10).unwrap();
        assert!(!grows(60, 71));
        assert!(budget.has_refused());
        assert!(grows(60, 65));
        assert!(!budget.has_refused(), "it has coped");
        assert!(held.grow(5) && !held.grow(1));
        assert!(budget.charge(1).is_none());
        drop(held);
        assert!(grows(65, 80), "what is held no more counts no more");
    }
}
