//! Announcements of claims: CLAIMED is stored in slots that are being served.
//!
//! In a bare queue this is part of the claim, because a device of vyre 0.7 may wait for CLAIMED. In a
//! queue with a header no device waits for it.

use super::HostQueue;
use crate::abi::status::{self, PUBLISHED};
use crate::abi::{GROUP_SLOTS, word};
use crate::slot_mask::SlotMask;
use crate::sync::Ordering;

impl HostQueue {
    /// Stores CLAIMED in every slot that is owed an outcome and still holds PUBLISHED. Returns the number
    /// of slots stored to.
    ///
    /// A bare queue has nothing left to announce, since each claim stores CLAIMED at once. In a queue with
    /// a header this is optional: no device waits for CLAIMED. Each store takes a cache line away from the
    /// device. [`announce_lasting_claims`](Self::announce_lasting_claims) stores for long requests alone.
    /// The stores are relaxed: they order nothing.
    pub fn announce_claims(&mut self) -> u32 {
        (0..self.group_count())
            .map(|group| self.announce(self.owed.mask(group)))
            .sum()
    }

    /// Announces, as [`announce_claims`](Self::announce_claims) does, the requests that were in flight at
    /// the last call and still are.
    ///
    /// Call this at long intervals. A request in flight across two calls is announced; one that ends
    /// between two calls is not.
    pub fn announce_lasting_claims(&mut self) -> u32 {
        (0..self.group_count())
            .map(|group| {
                let announced = self.announce(self.lasting.mask(group));
                self.lasting.insert_mask(self.owed.mask(group));
                announced
            })
            .sum()
    }

    /// Announces the slots of `slots` that are owed an outcome, at most once for each claim.
    pub(super) fn announce(&mut self, slots: SlotMask) -> u32 {
        let group = slots.group();
        let owed = self.owed.mask(group).bits();
        let silent = !self.announced.mask(group).bits();
        let slots = SlotMask::new(group, slots.bits() & owed & silent);
        self.announced.insert_mask(slots);
        let mut stored = 0;
        for slot in slots {
            // A word that the device has stored over a request is left for the completion to find.
            if self.status(slot, Ordering::Relaxed) == PUBLISHED {
                self.region.words::<8>(self.geometry.slot_word(slot)).store(
                    word::STATUS,
                    status::CLAIMED,
                    Ordering::Relaxed,
                );
                stored += 1;
            }
        }
        stored
    }

    const fn group_count(&self) -> u32 {
        self.geometry.slots().div_ceil(GROUP_SLOTS)
    }
}
