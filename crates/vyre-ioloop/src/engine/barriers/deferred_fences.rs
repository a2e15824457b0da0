//! Fences from the claim until they are due or wait in an epoch.

use std::collections::VecDeque;

use vyre_ioq::SlotMask;

/// Fences of one group of slots, in one state.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::engine) struct FenceSet {
    pub(in crate::engine) fences: SlotMask,
    /// The fences of the set that have a deadline.
    pub(in crate::engine) timed: SlotMask,
}

/// Fence sets in the order in which rounds have found them. Fences are covered in that order, so
/// two counts tell the states apart.
#[derive(Debug)]
pub(super) struct DeferredFences {
    /// First the sets that are due, then those that earlier rounds have found, then those that the
    /// current round has found.
    sets: VecDeque<FenceSet>,
    due: usize,
    /// Number of sets that are due or that earlier rounds have found.
    before_round: usize,
}

impl DeferredFences {
    pub(super) fn new(slots: u32) -> Self {
        Self {
            // A set holds at least one fence.
            sets: VecDeque::with_capacity(slots as usize),
            due: 0,
            before_round: 0,
        }
    }

    /// Returns whether any set is not due yet.
    #[inline]
    pub(super) fn any(&self) -> bool {
        self.sets.len() > self.due
    }

    #[inline]
    pub(super) fn begin_round(&mut self) {
        self.before_round = self.sets.len();
    }

    /// Adds a set that the current round has found.
    #[inline]
    pub(super) fn push(&mut self, set: FenceSet) {
        self.sets.push_back(set);
    }

    /// Returns whether the rest of the current round covers any set.
    #[inline]
    pub(super) const fn any_of_earlier_rounds(&self) -> bool {
        self.before_round > self.due
    }

    /// Makes the sets of earlier rounds due, as far as all of their fences are below slot `end`.
    pub(super) fn make_due_below(&mut self, end: u32) {
        let earlier = self.sets.range(self.due..self.before_round);
        let below = earlier.take_while(|set| set.fences.last() < Some(end));
        self.due += below.count();
    }

    /// Makes all sets of earlier rounds due.
    #[inline]
    pub(super) const fn make_due(&mut self) {
        self.due = self.before_round;
    }

    /// Removes the sets of earlier rounds, and returns them.
    pub(super) fn take_earlier(&mut self) -> impl Iterator<Item = FenceSet> + '_ {
        let earlier = self.due..self.before_round;
        self.before_round = self.due;
        self.sets.drain(earlier)
    }

    #[inline]
    pub(super) const fn any_due(&self) -> bool {
        self.due > 0
    }

    /// Removes the first set that is due, and returns it.
    #[inline]
    pub(super) fn pop_due(&mut self) -> Option<FenceSet> {
        if self.due == 0 {
            return None;
        }
        self.due -= 1;
        self.before_round -= 1;
        self.sets.pop_front()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &FenceSet> {
        self.sets.iter()
    }
}
