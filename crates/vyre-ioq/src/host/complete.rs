//! Completion: the host end stores the outcomes of claimed requests.

use super::HostQueue;
use crate::abi::{status, word};
use crate::errno::Errno;
use crate::slot_mask::SlotMask;
use crate::state::{self, Observation};
use crate::sync::Ordering;

/// Error of an outcome for a slot that is owed none: the slot was not claimed, or is completed already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("slot {slot} is owed no outcome: it was not claimed, or was completed already")]
pub struct NotOwed {
    /// Slot that was named.
    pub slot: u32,
}

impl HostQueue {
    /// Completes a claimed slot with the bytes moved or with an errno. If the queue does not
    /// [carry counts](Self::carries_counts), the device sees OK or ERROR alone.
    ///
    /// The status is stored with release, after the count. It pairs with the acquire of
    /// [`DeviceQueue::poll`](crate::DeviceQueue::poll).
    ///
    /// # Errors
    /// [`NotOwed`] if the slot is not claimed. Nothing is stored then.
    #[inline]
    pub fn complete(&mut self, slot: u32, result: Result<u32, Errno>) -> Result<(), NotOwed> {
        self.remove_owed(slot)?;
        self.store_outcome(slot, result, self.counts);
        Ok(())
    }

    /// Completes several slots, in order.
    ///
    /// All outcomes are stored in one run. Each store fetches a cache line from the core of a device, and
    /// a store that waits for its line holds up the stores after it.
    ///
    /// # Errors
    /// [`NotOwed`] for the first slot that is not claimed. All other slots are completed.
    #[inline]
    pub fn complete_batch(
        &mut self,
        outcomes: &[(u32, Result<u32, Errno>)],
    ) -> Result<(), NotOwed> {
        for (count, &(slot, _)) in outcomes.iter().enumerate() {
            if let Err(not_owed) = self.remove_owed(slot) {
                self.store_outcomes(&outcomes[..count]);
                self.complete_each(&outcomes[count + 1..]);
                return Err(not_owed);
            }
        }
        self.store_outcomes(outcomes);
        Ok(())
    }

    /// Completes every slot of `slots` with the same outcome, at less cost than one by one.
    ///
    /// # Errors
    /// [`NotOwed`] for the first slot that is not claimed. All other slots are completed.
    #[inline]
    pub fn complete_all(
        &mut self,
        slots: SlotMask,
        result: Result<u32, Errno>,
    ) -> Result<(), NotOwed> {
        let in_ledger = self.owed.mask(slots.group()).bits();
        let owed = SlotMask::new(slots.group(), slots.bits() & in_ledger);
        self.owed.remove_mask(owed);
        self.owed_slots -= owed.len();
        for slot in owed {
            self.count_overwrite(slot);
        }
        let counts = self.counts;
        for slot in owed {
            self.store_outcome(slot, result, counts);
        }
        let mut not_owed = SlotMask::new(slots.group(), slots.bits() & !in_ledger);
        not_owed.pop().map_or(Ok(()), |slot| Err(NotOwed { slot }))
    }

    #[inline]
    fn store_outcomes(&self, outcomes: &[(u32, Result<u32, Errno>)]) {
        let counts = self.counts;
        for &(slot, result) in outcomes {
            self.store_outcome(slot, result, counts);
        }
    }

    /// Completes the rest of a batch after one of its slots was not owed an outcome.
    #[cold]
    fn complete_each(&mut self, outcomes: &[(u32, Result<u32, Errno>)]) {
        for &(slot, result) in outcomes {
            let _ = self.complete(slot, result);
        }
    }

    /// Removes a slot from the ledger.
    #[inline]
    fn remove_owed(&mut self, slot: u32) -> Result<(), NotOwed> {
        if slot >= self.geometry.slots() || !self.owed.remove(slot) {
            return Err(NotOwed { slot });
        }
        self.owed_slots -= 1;
        self.count_overwrite(slot);
        Ok(())
    }

    /// Counts a fault if the device has stored over a slot that the host was serving.
    #[inline]
    fn count_overwrite(&mut self, slot: u32) {
        let found = self.status(slot, Ordering::Relaxed);
        if let Observation::Fault(fault) = state::observe(true, found) {
            self.faults.count(fault);
        }
    }

    /// Stores an outcome. `counts` is the queue's own; callers with many outcomes load it once.
    #[inline]
    fn store_outcome(&self, slot: u32, result: Result<u32, Errno>, counts: bool) {
        let words = self.region.words::<8>(self.geometry.slot_word(slot));
        let (count, outcome) = match result {
            Ok(moved) => (moved, status::OK),
            Err(errno) => (errno.raw(), status::ERROR),
        };
        // A device of vyre 0.7 relies on COUNT being as it left it.
        if counts {
            words.store(word::COUNT, count, Ordering::Relaxed);
        }
        words.store(word::STATUS, outcome, Ordering::Release);
    }
}
