//! The identity of a slot among all queues.

/// The place of a request: the number of its queue and its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotId {
    pub(super) queue: u32,
    pub(super) slot: u32,
}

impl SlotId {
    #[inline]
    pub(super) const fn to_user(self) -> u64 {
        (self.queue as u64) << 32 | self.slot as u64
    }

    #[inline]
    pub(super) const fn from_user(user: u64) -> Self {
        Self {
            queue: (user >> 32) as u32,
            slot: user as u32,
        }
    }
}
