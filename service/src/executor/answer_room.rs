use std::sync::{Arc, Mutex, PoisonError};

use crate::memory::{Memory, Share};

/// Bytes that need no room.
const SMALL_BYTES: usize = 64 * 1024;
/// As it came, and as the value that it is.
const COPIES: usize = 2;

/// Room in memory for what an executor answers, until the end of the attempt is stored.
pub struct AnswerRoom {
    memory: Arc<Memory>,
    share: Mutex<Option<Share>>,
}

impl AnswerRoom {
    pub fn new(memory: Arc<Memory>) -> Self {
        Self { memory, share: Mutex::default() }
    }

    /// Waits until so many bytes may be read. The work is done, so that it is never refused.
    pub(super) async fn wait_for(&self, bytes: usize) {
        if bytes <= SMALL_BYTES {
            return;
        }
        let share = self.memory.returns.wait_for(bytes.saturating_mul(COPIES)).await;
        *self.share.lock().unwrap_or_else(PoisonError::into_inner) = share;
    }
}
