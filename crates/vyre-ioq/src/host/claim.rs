//! Claims: the host end takes published requests into its ledger and reads each of their words once.

use core::ops::Range;

use super::HostQueue;
use crate::abi::status::PUBLISHED;
use crate::abi::{GROUP_SLOTS, SlotImage, word};
use crate::request::Op;
use crate::slot_mask::SlotMask;
use crate::sync::Ordering;

/// Claimed request: its slot, which the host now owes an outcome, and its words as they were at the
/// claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claim {
    /// Slot of the request.
    pub slot: u32,
    /// Private copy of the slot. What the device stores later changes nothing in it.
    pub image: SlotImage,
}

/// Claimed requests of one group whose words have not been read yet.
///
/// [`HostQueue::claim`] returns it, and [`HostQueue::next_claim`] takes one request after another out of
/// it. It cannot be cloned, so that no request is read twice: a device may change the words between two
/// reads.
#[derive(Debug)]
#[must_use = "the slots are owed an outcome"]
pub struct Claims {
    unread: SlotMask,
}

impl Claims {
    /// Returns the slots whose words have not been read yet.
    #[inline]
    pub const fn slots(&self) -> SlotMask {
        self.unread
    }
}

impl HostQueue {
    /// Claims the requests that are published in `slots`, in order, and passes each to `sink`. Returns
    /// their number. Slots past the end are ignored.
    ///
    /// This combines [`sweep`](Self::sweep), [`claim`](Self::claim), [`next_claim`](Self::next_claim)
    /// and [`refresh`](Self::refresh). If a call claims a FENCE or SYNC, it also claims the requests that
    /// were published before it in later slots of `slots`. Requests that were published before it in
    /// earlier slots, or in slots outside `slots`, are visible to the next call that sweeps those slots.
    #[inline]
    pub fn claim_published(&mut self, slots: Range<u32>, mut sink: impl FnMut(Claim)) -> u32 {
        let mut claimed = 0;
        let mut cursor = self.sweep(slots);
        while let Some(group) = cursor.next() {
            let mut any_barrier = false;
            let mut claims = self.claim(group);
            claimed += claims.slots().len();
            while let Some(claim) = self.next_claim(&mut claims) {
                any_barrier |= Op::from_word(claim.image.op).is_some_and(Op::is_barrier);
                sink(claim);
            }
            if any_barrier {
                self.refresh(&mut cursor);
            }
        }
        claimed
    }

    /// Claims the requests that are published in `slots`, as far as they belong to the group of the first
    /// slot. Slots of other groups are left alone.
    ///
    /// When this returns, all of these requests are claimed and owed an outcome.
    /// [`next_claim`](Self::next_claim) returns their words.
    ///
    /// The status is loaded with acquire, which pairs with the release of
    /// [`DeviceQueue::publish`](crate::DeviceQueue::publish): the other words of the slot are the
    /// request's.
    #[inline]
    pub fn claim(&mut self, slots: Range<u32>) -> Claims {
        let first = slots.start;
        let end = slots.end.min(self.geometry.slots());
        if first >= end {
            let unread = SlotMask::new(0, 0);
            return Claims { unread };
        }
        let group = first / GROUP_SLOTS;
        let found = self.sweep_group(first..end.min((group + 1) * GROUP_SLOTS));
        let shift = first % GROUP_SLOTS;
        if found.faults != 0 {
            self.count_faults(SlotMask::new(group, found.faults << shift));
        }
        let unread = SlotMask::new(group, found.requests << shift);
        if !unread.is_empty() {
            self.mark_claimed(unread);
        }
        Claims { unread }
    }

    /// Removes the next request from `claims` and returns it with its words, or returns `None` when none
    /// is left.
    ///
    /// Each word of the slot is loaded once. The loads are relaxed: [`claim`](Self::claim) has loaded the
    /// status with acquire.
    ///
    /// # Panics
    /// If `claims` comes from a queue with more slots than this one.
    #[inline]
    pub fn next_claim(&self, claims: &mut Claims) -> Option<Claim> {
        let slot = claims.unread.pop()?;
        let image = self.image(slot);
        Some(Claim { slot, image })
    }

    /// Copies the words of a claimed slot.
    #[inline]
    fn image(&self, slot: u32) -> SlotImage {
        assert!(slot < self.geometry.slots(), "the queue has no such slot");
        let first = self.geometry.slot_word(slot);
        let mut words = [0; 16];
        if self.geometry.is_bare() {
            let shared = self.region.words::<8>(first);
            for (word, value) in words.iter_mut().enumerate().take(8) {
                *value = shared.load(word, Ordering::Relaxed);
            }
        } else {
            let shared = self.region.words::<16>(first);
            words = core::array::from_fn(|word| shared.load(word, Ordering::Relaxed));
        }
        // The claim has read this word; the value of a second read could differ.
        words[word::STATUS] = PUBLISHED;
        bytemuck::cast(words)
    }

    /// Adds slots to the ledger. In a queue with a header, nothing is stored in the slots themselves:
    /// a store would take their cache lines away from the device.
    #[inline]
    fn mark_claimed(&mut self, slots: SlotMask) {
        self.owed.insert_mask(slots);
        self.announced.remove_mask(slots);
        self.lasting.remove_mask(slots);
        self.faulty.remove_mask(slots);
        self.owed_slots += slots.len();
        if self.geometry.is_bare() {
            self.announce(slots);
        }
    }
}
