//! Announcing what is being served: CLAIMED. In a bare queue this is part of the claim, since devices
//! of vyre 0.7 may wait for it; with a header, no device waits for it.

use super::{Claimed, HostQueue};
use crate::abi::status::{self, PUBLISHED};
use crate::abi::{GROUP_SLOTS as GROUP, word};
use crate::sync::Ordering;

impl HostQueue {
    /// Stores CLAIMED in every slot that is owed an outcome and still says PUBLISHED, and returns how
    /// many slots it stored to.
    ///
    /// A bare queue has nothing left to announce: each claim stores CLAIMED at once. With a header, no
    /// device waits for CLAIMED, so this is optional. Each store takes a cache line away from the device;
    /// [`announce_lasting_claims`](Self::announce_lasting_claims) stores for long requests alone. The
    /// stores are relaxed: they order nothing.
    pub fn announce_claims(&mut self) -> u32 {
        (0..self.geometry.slots().div_ceil(GROUP))
            .map(|group| self.announce(group, u64::MAX))
            .sum()
    }

    /// As [`announce_claims`](Self::announce_claims), for requests that were owed an outcome when
    /// this was called last and still are. To be called at long intervals: a request that lasts for
    /// two of them is told of, and one that ends within one is not.
    pub fn announce_lasting_claims(&mut self) -> u32 {
        (0..self.geometry.slots().div_ceil(GROUP))
            .map(|group| {
                let announced = self.announce(group, self.lasting.group_bits(group));
                let owed = self.owed.group_bits(group);
                self.lasting.insert_bits(group * GROUP, owed);
                announced
            })
            .sum()
    }

    /// Tells of slots of a group that are owed an outcome, once each.
    pub(super) fn announce(&mut self, group: u32, of: u64) -> u32 {
        let first = group * GROUP;
        let slots = of & self.owed.group_bits(group) & !self.told.group_bits(group);
        self.told.insert_bits(first, slots);
        let mut announced = 0;
        for slot in (Claimed { first, slots }) {
            // What the device has stored over a request is for the completion to find.
            if self.status(slot, Ordering::Relaxed) == PUBLISHED {
                self.region.words::<8>(self.geometry.slot_word(slot)).store(
                    word::STATUS,
                    status::CLAIMED,
                    Ordering::Relaxed,
                );
                announced += 1;
            }
        }
        announced
    }
}
