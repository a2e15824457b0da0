//! Sets of slots of one group: a word of bits.

use crate::abi::GROUP_SLOTS;

/// Set of slots that belong to one group of [`GROUP_SLOTS`] slots. The default is the empty set of the
/// first group.
///
/// [`Claims::slots`](crate::Claims::slots) returns the slots of one claim;
/// [`to_empty`](Self::to_empty) and [`insert`](Self::insert) build other sets of the same group.
#[derive(Clone, Copy, Debug, Default)]
pub struct SlotMask {
    group: u32,
    /// One bit for each slot; the lowest is the first slot of the group.
    bits: u64,
}

impl SlotMask {
    #[inline]
    pub(crate) const fn new(group: u32, bits: u64) -> Self {
        Self { group, bits }
    }

    #[inline]
    pub(crate) const fn group(self) -> u32 {
        self.group
    }

    #[inline]
    pub(crate) const fn bits(self) -> u64 {
        self.bits
    }

    /// Returns the empty set of the same group.
    #[inline]
    #[must_use]
    pub const fn to_empty(self) -> Self {
        Self { bits: 0, ..self }
    }

    /// Adds a slot of the group.
    ///
    /// # Panics
    /// If the slot belongs to another group and debug assertions are on. Without them, the slot is left
    /// out.
    #[inline]
    pub const fn insert(&mut self, slot: u32) {
        let in_group = slot / GROUP_SLOTS == self.group;
        debug_assert!(in_group, "the slot belongs to another group");
        if in_group {
            self.bits |= 1 << (slot % GROUP_SLOTS);
        }
    }

    /// Removes a slot, if the set holds it.
    #[inline]
    pub const fn remove(&mut self, slot: u32) {
        if slot / GROUP_SLOTS == self.group {
            self.bits &= !(1 << (slot % GROUP_SLOTS));
        }
    }

    /// Returns whether the set holds `slot`.
    #[inline]
    pub const fn contains(self, slot: u32) -> bool {
        slot / GROUP_SLOTS == self.group && self.bits >> (slot % GROUP_SLOTS) & 1 != 0
    }

    /// Returns the number of slots in the set.
    #[inline]
    pub const fn len(self) -> u32 {
        self.bits.count_ones()
    }

    /// Returns whether the set holds no slot.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.bits == 0
    }

    /// Returns the highest slot of the set.
    #[inline]
    pub const fn last(self) -> Option<u32> {
        match self.bits.checked_ilog2() {
            Some(bit) => Some(self.group * GROUP_SLOTS + bit),
            None => None,
        }
    }

    /// Removes the lowest slot of the set and returns it.
    #[inline]
    pub(crate) const fn pop(&mut self) -> Option<u32> {
        if self.bits == 0 {
            return None;
        }
        let slot = self.group * GROUP_SLOTS + self.bits.trailing_zeros();
        self.bits &= self.bits - 1;
        Some(slot)
    }
}

impl IntoIterator for SlotMask {
    type Item = u32;
    type IntoIter = SlotMaskIter;

    #[inline]
    fn into_iter(self) -> SlotMaskIter {
        SlotMaskIter { left: self }
    }
}

/// Iterator over the slots of a [`SlotMask`], in order.
#[derive(Clone, Debug)]
pub struct SlotMaskIter {
    left: SlotMask,
}

impl Iterator for SlotMaskIter {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        self.left.pop()
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.left.len() as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for SlotMaskIter {}
