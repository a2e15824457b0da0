//! Sets of slots as the host walks them.

use core::ops::Range;

use crate::abi::GROUP_SLOTS as GROUP;

/// Slots that [`HostQueue::claim`](crate::HostQueue::claim) has claimed, in order: a set of slots of one
/// group. [`none`](Self::none) and [`insert`](Self::insert) make others of the same group.
#[derive(Clone, Debug)]
#[must_use = "the slots are owed an outcome"]
pub struct Claimed {
    pub(crate) first: u32,
    /// A bit for each; the lowest is slot `first`.
    pub(crate) slots: u64,
}

impl Claimed {
    /// No slots, of the same group.
    #[inline]
    pub const fn none(&self) -> Self {
        Self { slots: 0, ..*self }
    }

    /// Adds a slot that the set which this one was made of by [`none`](Self::none) had.
    ///
    /// # Panics
    /// In builds with debug assertions, if it is of another group; in others, it is left out.
    #[inline]
    pub const fn insert(&mut self, slot: u32) {
        let place = slot.wrapping_sub(self.first);
        debug_assert!(place < GROUP, "of another group");
        if place < GROUP {
            self.slots |= 1 << place;
        }
    }
}

impl Iterator for Claimed {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        let slot = self.first + (self.slots != 0).then(|| self.slots.trailing_zeros())?;
        self.slots &= self.slots - 1;
        Some(slot)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.slots.count_ones() as usize;
        (left, Some(left))
    }

    #[inline]
    fn last(self) -> Option<u32> {
        self.slots.checked_ilog2().map(|place| self.first + place)
    }
}

impl ExactSizeIterator for Claimed {}

/// Ranges of slots to look at: see [`HostQueue::groups`](crate::HostQueue::groups).
#[derive(Clone, Debug)]
pub struct Groups {
    /// Groups to come, a bit for each.
    pub(crate) left: u64,
    /// The group that was given out last, and all before it.
    pub(crate) gone: u64,
    pub(crate) slots: Range<u32>,
}

impl Iterator for Groups {
    type Item = Range<u32>;

    #[inline]
    fn next(&mut self) -> Option<Range<u32>> {
        while self.left != 0 {
            let group = self.left & self.left.wrapping_neg();
            self.gone = group | (group - 1);
            self.left &= !group;
            let first = group.trailing_zeros() * GROUP;
            let part = first.max(self.slots.start)..(first + GROUP).min(self.slots.end);
            if !part.is_empty() {
                return Some(part);
            }
        }
        None
    }
}
