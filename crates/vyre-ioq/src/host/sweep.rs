//! The sweep: which slots of a group hold requests, and which hold what no device may store there.

use core::ops::Range;

use super::{Claimed, HostQueue};
use crate::abi::status::PUBLISHED;
use crate::abi::word;
use crate::state::{self, Observation};
use crate::sync::Ordering;

/// Slots whose statuses are looked at together before any is judged.
const CHUNK: usize = if cfg!(loom) { 2 } else { 8 };

/// What a look at a group of slots found: a bit for each.
#[derive(Clone, Copy, Default)]
pub(super) struct Found {
    pub(super) requests: u64,
    pub(super) faults: u64,
}

impl HostQueue {
    /// Looks at the statuses of up to a group of slots, leaving out those that are owed an
    /// outcome. No load needs what another loaded, and no branch comes before a chunk is loaded, so
    /// that their cache misses overlap: on x86, where these are plain loads. On AArch64 (`ldapr`,
    /// `ldar`) each holds up the next, as far as the core does not load ahead and look again.
    #[inline]
    pub(super) fn look(&self, slots: Range<u32>) -> Found {
        let free = !self.owed.bits(slots.clone());
        let mut found = Found::default();
        let mut first = slots.start;
        while first < slots.end {
            let whole = slots.end - first >= CHUNK as u32;
            let (shift, count) = (first - slots.start, if whole { CHUNK as u32 } else { 1 });
            if free >> shift & ((1 << count) - 1) != 0 {
                let chunk = match (whole, self.geometry.is_bare()) {
                    (true, false) => self.look_at::<CHUNK, { CHUNK * 16 }>(first),
                    (true, true) => self.look_at::<CHUNK, { CHUNK * 8 }>(first),
                    (false, false) => self.look_at::<1, 16>(first),
                    (false, true) => self.look_at::<1, 8>(first),
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

    /// Looks at `SLOTS` slots, which take `WORDS` words. Acquire: what is found to be a request is
    /// read after this. In order, too: of what was published before a request that is found, the look
    /// finds all that lies in later slots.
    #[inline]
    fn look_at<const SLOTS: usize, const WORDS: usize>(&self, first: u32) -> Found {
        let words = self.region.words::<WORDS>(self.geometry.slot_word(first));
        // A byte for each status, of the first slot lowest; and all of them in one.
        let (mut bytes, mut together) = (0_u64, 0);
        for slot in 0..SLOTS {
            let status = words.load(slot * (WORDS / SLOTS) + word::STATUS, Ordering::Acquire);
            together |= status;
            bytes |= u64::from(status) << (8 * slot);
        }
        // Not the bytes, which of a word that is no status leave out a part.
        if together == 0 {
            return Found::default();
        }
        if !state::is_in_order(together) {
            return self.look_closely(first, SLOTS as u32);
        }
        Found {
            requests: state::published_in(bytes),
            faults: 0,
        }
    }

    /// Looks at a few slots of which one is out of order, or claimed and told so. Acquire, and in
    /// order, as above: these loads are the ones that count.
    #[cold]
    fn look_closely(&self, first: u32, count: u32) -> Found {
        let mut found = Found::default();
        for slot in 0..count {
            let status = self.status(first + slot, Ordering::Acquire);
            found.requests |= u64::from(status == PUBLISHED) << slot;
            found.faults |= u64::from(!state::is_in_order(status)) << slot;
        }
        found
    }

    #[cold]
    pub(super) fn count_faults(&mut self, first: u32, faults: u64) {
        for slot in (Claimed {
            first,
            slots: faults,
        }) {
            // Loaded again: a device that changed it meanwhile has not earned a better count.
            let found = self.status(slot, Ordering::Relaxed);
            if let Observation::Fault(fault) = state::observe(false, found)
                && self.faulty.insert(slot)
            {
                self.faults.count(fault);
            }
        }
    }
}
