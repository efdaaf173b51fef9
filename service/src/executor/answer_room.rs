//! Memory for the answer of one call. See `memory.rs` for why it is taken before the answer is
//! read.

use std::sync::{Arc, Mutex, PoisonError};

use crate::memory::{Memory, Share};

/// An answer of at most this many bytes needs no share of the memory.
const SMALL_BYTES: usize = 64 * 1024;
/// An answer is in memory twice: as the bytes that were read, and as the value made of them.
const COPIES: usize = 2;

/// The share of memory that one call's answer takes. Kept until the end of the attempt is stored.
pub struct AnswerRoom {
    memory: Arc<Memory>,
    share: Mutex<Option<Share>>,
}

impl AnswerRoom {
    pub fn new(memory: Arc<Memory>) -> Self {
        Self { memory, share: Mutex::default() }
    }

    /// Waits until `bytes` may be read. The call is never refused instead, because its work is done
    /// and would be lost.
    pub(super) async fn wait_for(&self, bytes: usize) {
        if bytes <= SMALL_BYTES {
            return;
        }
        let share = self.memory.returns.wait_for(bytes.saturating_mul(COPIES)).await;
        *self.share.lock().unwrap_or_else(PoisonError::into_inner) = share;
    }
}
