use wasmtime::ResourceLimiter;

/// Bounds what one run takes in memory, over all memories of the plugin. (Wasmtime's own limits
/// hold for each memory by itself.)
#[derive(Debug)]
pub(crate) struct Limiter {
    bytes_max: usize,
    bytes: usize,
    refused: bool,
}

impl Limiter {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, refused: false }
    }

    /// Whether the run has asked for more than it may have, and got nothing since.
    pub(crate) fn has_refused(&self) -> bool {
        self.refused
    }

    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = self.bytes.saturating_add(desired.saturating_sub(current));
        if bytes > self.bytes_max {
            self.refused = true;
            return Ok(false);
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.bytes = bytes;
        // It has coped with what was refused before.
        self.refused = false;
        Ok(true)
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

    use super::Limiter;

    #[test]
    fn memories_share_one_limit() {
        let mut limiter = Limiter::new(100);
        let mut grows = |from, to| limiter.memory_growing(from, to, None).unwrap();
        assert!(grows(0, 60), "one memory");
        assert!(grows(0, 30), "another");
        assert!(!grows(60, 71));
        assert!(limiter.has_refused());
        assert!(limiter.memory_growing(60, 70, None).unwrap());
        assert!(!limiter.has_refused(), "it has coped");
    }
}
