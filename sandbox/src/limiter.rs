//! Limits the memory of one run: the plugin's own memories, and the memory that the host holds for
//! it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use wasmtime::ResourceLimiter;

/// The most bytes that one call may pass from the plugin to the host.
pub(crate) const PASSED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The memory that one run may use, all together. (Wasmtime's own limits apply to each memory
/// separately.)
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

    /// Whether the last request of the run for more memory was refused.
    pub(crate) fn has_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Counts memory that the host is going to hold for the run. `None` if the run may not have
    /// that much more.
    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        self.take(bytes).then(|| Charge { budget: Arc::clone(self), bytes })
    }

    fn take(&self, more: usize) -> bool {
        let taken = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bytes| {
            bytes.checked_add(more).filter(|bytes| *bytes <= self.bytes_max)
        });
        // A run that got memory after a refusal has coped with the refusal.
        self.refused.store(taken.is_err(), Ordering::Relaxed);
        taken.is_ok()
    }
}

/// Memory of the host that counts against a run as long as this lives.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    /// Adds `more` bytes, and returns whether the run may have them.
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

/// Asks the budget before a memory of the plugin grows.
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

    /// The size of tables is limited by the pool.
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
