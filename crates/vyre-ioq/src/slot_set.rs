//! Sets of slots of a whole queue: the private ledger of the host end. Nothing in it comes from the
//! device.

use crate::abi::{GROUP_SLOTS, MAX_SLOTS};
use crate::slot_mask::SlotMask;

const GROUPS: usize = (MAX_SLOTS / GROUP_SLOTS) as usize;

// One word of the set holds one group.
const _: () = assert!(GROUP_SLOTS <= u64::BITS);

/// Set of slots of one queue.
#[derive(Clone, Debug)]
pub(crate) struct SlotSet([u64; GROUPS]);

impl SlotSet {
    pub(crate) const fn new() -> Self {
        Self([0; GROUPS])
    }

    #[inline]
    pub(crate) fn contains(&self, slot: u32) -> bool {
        self.0[Self::group(slot)] & Self::bit(slot) != 0
    }

    /// Returns one bit for each of `slots`, which lie in one group.
    #[inline]
    pub(crate) fn bits(&self, slots: core::ops::Range<u32>) -> u64 {
        let ones = u64::MAX >> (u64::BITS - slots.len() as u32);
        self.0[Self::group(slots.start)] >> (slots.start % GROUP_SLOTS) & ones
    }

    /// Returns the slots of one group.
    #[inline]
    pub(crate) const fn mask(&self, group: u32) -> SlotMask {
        SlotMask::new(group, self.0[group as usize])
    }

    /// Adds the slots of `mask`.
    #[inline]
    pub(crate) const fn insert_mask(&mut self, mask: SlotMask) {
        self.0[mask.group() as usize] |= mask.bits();
    }

    /// Removes the slots of `mask`.
    #[inline]
    pub(crate) const fn remove_mask(&mut self, mask: SlotMask) {
        self.0[mask.group() as usize] &= !mask.bits();
    }

    /// Adds a slot. Returns whether it was absent.
    #[inline]
    pub(crate) fn insert(&mut self, slot: u32) -> bool {
        let group = &mut self.0[Self::group(slot)];
        let absent = *group & Self::bit(slot) == 0;
        *group |= Self::bit(slot);
        absent
    }

    /// Removes a slot. Returns whether it was present.
    #[inline]
    pub(crate) fn remove(&mut self, slot: u32) -> bool {
        let group = &mut self.0[Self::group(slot)];
        let present = *group & Self::bit(slot) != 0;
        *group &= !Self::bit(slot);
        present
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..MAX_SLOTS).filter(|&slot| self.contains(slot))
    }

    #[inline]
    const fn group(slot: u32) -> usize {
        (slot / GROUP_SLOTS) as usize
    }

    #[inline]
    const fn bit(slot: u32) -> u64 {
        1 << (slot % GROUP_SLOTS)
    }
}
