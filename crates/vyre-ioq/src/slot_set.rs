//! The host's own account of a queue: which slots it serves. Nothing in it comes from the device.

use crate::abi::{GROUP_SLOTS as GROUP, MAX_SLOTS};

const GROUPS: usize = (MAX_SLOTS / GROUP) as usize;

// A word of the set is a group.
const _: () = assert!(GROUP <= u64::BITS);

/// A set of slots of one queue.
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

    /// One bit for each of a few slots, which lie in one group.
    #[inline]
    pub(crate) fn bits(&self, slots: core::ops::Range<u32>) -> u64 {
        let ones = u64::MAX >> (u64::BITS - slots.len() as u32);
        self.0[Self::group(slots.start)] >> (slots.start % GROUP) & ones
    }

    /// One bit for each slot of a group.
    #[inline]
    pub(crate) const fn group_bits(&self, group: u32) -> u64 {
        self.0[group as usize]
    }

    /// Adds slots of one group: those whose bits are set, the lowest bit being slot `first`.
    #[inline]
    pub(crate) fn insert_bits(&mut self, first: u32, slots: u64) {
        self.0[Self::group(first)] |= slots << (first % GROUP);
    }

    /// Removes slots of one group: those whose bits are set, the lowest bit being slot `first`.
    #[inline]
    pub(crate) fn remove_bits(&mut self, first: u32, slots: u64) {
        self.0[Self::group(first)] &= !(slots << (first % GROUP));
    }

    /// Adds a slot; whether it was absent.
    #[inline]
    pub(crate) fn insert(&mut self, slot: u32) -> bool {
        let group = &mut self.0[Self::group(slot)];
        let absent = *group & Self::bit(slot) == 0;
        *group |= Self::bit(slot);
        absent
    }

    /// Removes a slot; whether it was there.
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
        (slot / GROUP) as usize
    }

    #[inline]
    const fn bit(slot: u32) -> u64 {
        1 << (slot % GROUP)
    }
}
