//! The load of one claim: so many tasks that its answer stays within bounds, and that there is room
//! for it in memory. A task that does not fit stays where it is, and loses no attempt.

use crate::{
    domain::limits::CLAIM_BYTES_MAX,
    memory::{Lane, Share},
};

pub(super) struct Load<'a> {
    lane: &'a Lane,
    /// How many times each task is in memory.
    copies: usize,
    bytes: usize,
    /// There was no room in memory for one task more.
    pub(super) no_room: bool,
}

impl<'a> Load<'a> {
    pub(super) fn new(lane: &'a Lane, copies: usize) -> Self {
        Self { lane, copies, bytes: 0, no_room: false }
    }

    /// Takes room for one task more, if it fits. The first task is taken however large it is.
    pub(super) fn add(&mut self, bytes: usize) -> Option<Share> {
        if self.bytes > 0 && self.bytes.saturating_add(bytes) > CLAIM_BYTES_MAX {
            return None;
        }
        let share = self.lane.take(bytes.saturating_mul(self.copies));
        self.no_room = share.is_none();
        self.bytes = self.bytes.saturating_add(bytes);
        share
    }
}
