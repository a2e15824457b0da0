//! The sweep: finds the slots of a group that hold published requests, and those that hold a status that
//! no device may store.

use core::ops::Range;

use super::HostQueue;
use crate::abi::status::PUBLISHED;
use crate::abi::{GROUP_SLOTS, word};
use crate::slot_mask::SlotMask;
use crate::state::{self, Observation};
use crate::sync::Ordering;

/// Slots whose statuses are loaded before any of them is judged.
const CHUNK: usize = if cfg!(loom) { 2 } else { 8 };

/// Position of a sweep: an iterator over ranges of slots that may hold requests, each inside one group.
///
/// [`HostQueue::sweep`] begins one.
#[derive(Clone, Debug)]
pub struct SweepCursor {
    /// Groups that are still ahead, one bit for each.
    ahead: u64,
    /// Groups up to the one that was returned last.
    passed: u64,
    slots: Range<u32>,
}

impl Iterator for SweepCursor {
    type Item = Range<u32>;

    #[inline]
    fn next(&mut self) -> Option<Range<u32>> {
        while self.ahead != 0 {
            let group = self.ahead & self.ahead.wrapping_neg();
            self.passed = group | (group - 1);
            self.ahead &= !group;
            let first = group.trailing_zeros() * GROUP_SLOTS;
            let part = first.max(self.slots.start)..(first + GROUP_SLOTS).min(self.slots.end);
            if !part.is_empty() {
                return Some(part);
            }
        }
        None
    }
}

/// Slots of a range that the sweep found, one bit for each; the lowest is the first slot of the range.
#[derive(Clone, Copy, Default)]
pub(super) struct Found {
    pub(super) requests: u64,
    pub(super) faults: u64,
}

impl HostQueue {
    /// Returns the slots that hold a published request, and claims none.
    pub fn published(&self) -> impl Iterator<Item = u32> + '_ {
        let unused = self.unused & !self.header().in_use(self.unused);
        (0..self.geometry.slots()).filter(move |&slot| {
            unused >> (slot / GROUP_SLOTS) & 1 == 0
                && !self.owed.contains(slot)
                && state::observe(false, self.status(slot, Ordering::Relaxed))
                    == Observation::Request
        })
    }

    /// Begins a sweep over `slots`: returns the parts of it that may hold requests, each inside one
    /// group.
    ///
    /// These are the slots of group 0 and of every other group that the device has marked as in use. A
    /// group without a mark costs one load, instead of one for each slot.
    #[inline]
    pub fn sweep(&mut self, slots: Range<u32>) -> SweepCursor {
        SweepCursor {
            ahead: self.groups_in_use(),
            passed: 0,
            slots: slots.start..slots.end.min(self.geometry.slots()),
        }
    }

    /// Adds to a sweep the groups that the device has marked since the sweep began and that are
    /// still ahead.
    ///
    /// Call this after a FENCE or SYNC is claimed. The device may have marked a group after the sweep
    /// loaded the marks and before it published the barrier. The acquire load that found the barrier makes
    /// such a mark visible.
    pub fn refresh(&mut self, cursor: &mut SweepCursor) {
        cursor.ahead |= self.groups_in_use() & !cursor.passed;
    }

    #[inline]
    fn groups_in_use(&mut self) -> u64 {
        if self.unused != 0 {
            self.unused &= !self.header().in_use(self.unused);
        }
        self.geometry.groups() & !self.unused
    }

    /// Sweeps the slots of a range, which lies in one group, except those that are owed an outcome.
    ///
    /// The loads of a chunk do not depend on one another and no branch comes between them, so that their
    /// cache misses overlap. This holds on x86, where an acquire load is a plain load. On AArch64 an acquire
    /// load (`ldapr`, `ldar`) delays the loads after it, unless the core loads ahead and checks later.
    #[inline]
    pub(super) fn sweep_group(&self, slots: Range<u32>) -> Found {
        let free = !self.owed.bits(slots.clone());
        let mut found = Found::default();
        let mut first = slots.start;
        while first < slots.end {
            let whole = slots.end - first >= CHUNK as u32;
            let (shift, count) = (first - slots.start, if whole { CHUNK as u32 } else { 1 });
            if free >> shift & ((1 << count) - 1) != 0 {
                let chunk = match (whole, self.geometry.is_bare()) {
                    (true, false) => self.sweep_chunk::<CHUNK, { CHUNK * 16 }>(first),
                    (true, true) => self.sweep_chunk::<CHUNK, { CHUNK * 8 }>(first),
                    (false, false) => self.sweep_chunk::<1, 16>(first),
                    (false, true) => self.sweep_chunk::<1, 8>(first),
                };
                found.requests |= chunk.requests << shift;
                found.faults |= chunk.faults << shift;
            }
            first += count;
        }
        found.requests &= free;
        found.faults &= free;
        found
    }

    /// Sweeps `SLOTS` slots, which take `WORDS` words.
    ///
    /// Acquire: the words of a request are read after its status. The loads are also in the order of the
    /// slots: if a request is found, the sweep also finds every request in a later slot that was published
    /// before it.
    #[inline]
    fn sweep_chunk<const SLOTS: usize, const WORDS: usize>(&self, first: u32) -> Found {
        let words = self.region.words::<WORDS>(self.geometry.slot_word(first));
        // One byte for each status, with that of the first slot lowest, and the bits of all statuses.
        let (mut bytes, mut together) = (0_u64, 0);
        for slot in 0..SLOTS {
            let status = words.load(slot * (WORDS / SLOTS) + word::STATUS, Ordering::Acquire);
            together |= status;
            bytes |= u64::from(status) << (8 * slot);
        }
        // Tests `together`: `bytes` truncates a word that is not a status.
        if together == 0 {
            return Found::default();
        }
        if !state::is_in_order(together) {
            return self.sweep_each(first, SLOTS as u32);
        }
        Found {
            requests: state::published_in(bytes),
            faults: 0,
        }
    }

    /// Sweeps the slots of a chunk one by one, because one of them holds CLAIMED or a word that is
    /// not a status. Acquire, and in the order of the slots, as in
    /// [`sweep_chunk`](Self::sweep_chunk): these are the loads that find the requests.
    #[cold]
    fn sweep_each(&self, first: u32, count: u32) -> Found {
        let mut found = Found::default();
        for slot in 0..count {
            let status = self.status(first + slot, Ordering::Acquire);
            found.requests |= u64::from(status == PUBLISHED) << slot;
            found.faults |= u64::from(!state::is_in_order(status)) << slot;
        }
        found
    }

    /// Counts the faults that the sweep found in `slots`, each slot once until its next claim.
    #[cold]
    pub(super) fn count_faults(&mut self, slots: SlotMask) {
        for slot in slots {
            // The status is loaded again. A device that has corrected it meanwhile is not counted.
            let found = self.status(slot, Ordering::Relaxed);
            if let Observation::Fault(fault) = state::observe(false, found)
                && self.faulty.insert(slot)
            {
                self.faults.count(fault);
            }
        }
    }
}
