//! The barriers of one queue, from the claim to the moment when they are due: pure bookkeeping.
//!
//! A barrier is a FENCE or a SYNC. It has to wait for requests that were published before it, so the
//! host must have claimed them first. A sweep loads the slots in order; it can pass a slot before a
//! request is published there, and then find a barrier, published later, in a higher slot.
//!
//! # Rounds
//! Sweeps form rounds: a round loads every slot once, in order. A barrier that a round finds is
//! *deferred*. It is *covered* once the next round has passed its slot. By then every slot of the
//! queue has been loaded after the load that found the barrier: the higher slots by the round that
//! found it, the lower ones by the next round. Whatever was published before the barrier was visible
//! to those loads, and is claimed.
//!
//! A round may end early if it has covered every deferred barrier and has found none itself.
//!
//! # Epochs
//! Requests are admitted to the open epoch. Fences that are covered while requests are outstanding
//! close it: later requests belong to the next epoch. A fence is *due* when its epoch and every older
//! one have nothing outstanding.
//!
//! # Invariants
//! 1. No barrier is admitted, and no fence is due, before it is covered.
//! 2. No fence goes ahead while a SYNC is deferred, covered or not: the fence may have been published
//!    after the SYNC, and then has to wait for it. Covered SYNCs are admitted first.
//! 3. A fence is due only when every request that was admitted before it was covered has completed.
//!    It does not wait for requests that are admitted later, nor for other fences.
//! 4. A fence leaves by one of three ways: [`pop_due`](Barriers::pop_due) when it is due,
//!    [`remove`](Barriers::remove) when its deadline passes, [`clear`](Barriers::clear) at shutdown.
//! 5. Nothing allocates after [`new`](Barriers::new).
//!
//! # Costs
//! Fences are handled in sets, one for each group of slots in which a sweep found some. Each of
//! these takes constant time: deferring, covering and popping a set, admitting and completing a
//! request, and removing a fence. A deadline adds constant time.
//! A fence that has to wait for nothing belongs to no epoch, and takes no steps in lists.

mod deferred_fences;
mod epochs;
mod set_lists;
#[cfg(test)]
mod tests;

use vyre_ioq::Request;

use deferred_fences::DeferredFences;
pub(super) use deferred_fences::FenceSet;
use epochs::Epochs;
use set_lists::SetLists;

/// No set.
const NONE: u32 = u32::MAX;

/// SYNC that is claimed and not yet admitted.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeferredSync {
    pub(super) slot: u32,
    pub(super) request: Request,
    /// Time of its deadline, taken at the claim; 0 if it has none.
    pub(super) expires: u64,
}

/// List of the fence sets whose epochs have ended. The lists of the epochs follow.
const DUE: u32 = 0;
const FIRST_EPOCH: u32 = 1;

/// Barriers of one queue.
#[derive(Debug)]
pub(crate) struct Barriers {
    /// Fences that have not waited in an epoch.
    deferred: DeferredFences,
    /// Fences that wait in an epoch or have waited in one, by the number of their set. A set that is
    /// in use holds at least one fence, so there are at most as many as slots.
    sets: Box<[FenceSet]>,
    /// The sets whose epochs have ended, so that they are due, and those of each epoch.
    lists: SetLists,
    epochs: Epochs,
    /// Times of the deadlines of fences, by slot.
    expires: Box<[u64]>,
    /// Set of each fence that has a deadline and waits in an epoch, by slot.
    set_of: Box<[u32]>,
    syncs: Vec<DeferredSync>,
    /// Number of SYNCs at the front of `syncs` that earlier rounds have found.
    earlier_syncs: usize,
}

impl Barriers {
    /// Returns the barriers of a queue with this many slots: none.
    pub(super) fn new(slots: u32) -> Self {
        Self {
            deferred: DeferredFences::new(slots),
            sets: vec![FenceSet::default(); slots as usize].into(),
            lists: SetLists::new(slots, FIRST_EPOCH + Epochs::number(slots)),
            epochs: Epochs::new(slots),
            expires: vec![0; slots as usize].into(),
            set_of: vec![NONE; slots as usize].into(),
            syncs: Vec::with_capacity(slots as usize),
            earlier_syncs: 0,
        }
    }

    /// Returns whether any barrier is deferred.
    #[inline]
    pub(super) fn has_deferred(&self) -> bool {
        self.deferred.any() || !self.syncs.is_empty()
    }

    /// Begins a round, which covers what the rounds before it have found.
    #[inline]
    pub(super) fn begin_round(&mut self) {
        self.deferred.begin_round();
        self.earlier_syncs = self.syncs.len();
    }

    /// Notes the deadline of a fence that is about to be [deferred](Self::defer_fences).
    #[cold]
    pub(super) fn set_deadline(&mut self, slot: u32, expires: u64) {
        self.expires[slot as usize] = expires;
    }

    /// Defers fences that the current round has found in one group of slots.
    #[inline]
    pub(super) fn defer_fences(&mut self, set: FenceSet) {
        self.deferred.push(set);
    }

    /// Defers a SYNC that the current round has found.
    pub(super) fn defer_sync(&mut self, sync: DeferredSync) {
        self.syncs.push(sync);
    }

    /// Returns whether the current round covers fences, which [`pass`](Self::pass) may make due.
    #[inline]
    pub(super) fn has_earlier_fences(&self) -> bool {
        self.deferred.any_of_earlier_rounds()
    }

    /// Notes that the current round has passed the slots below `end`. The fences that it has thereby
    /// covered are due if nothing is outstanding, so that their lanes need not wait for the end of
    /// the round. Returns whether there are any.
    pub(super) fn pass(&mut self, end: u32) -> bool {
        if !self.syncs.is_empty() || !self.epochs.is_clear() {
            return false;
        }
        self.deferred.make_due_below(end);
        self.deferred.any_due()
    }

    /// Returns whether the current round has found a SYNC. Then no barrier goes ahead: a fence may
    /// have to wait for that SYNC, which is not covered yet. This terminates, since each round that
    /// finds a SYNC adds to the claimed slots.
    #[inline]
    pub(super) fn has_uncovered_sync(&self) -> bool {
        self.syncs.len() > self.earlier_syncs
    }

    /// Takes out the deferred SYNCs, all of which are covered. The caller gives the memory back
    /// through [`keep_memory`](Self::keep_memory).
    pub(super) fn take_syncs(&mut self) -> Vec<DeferredSync> {
        debug_assert!(!self.has_uncovered_sync(), "a SYNC is not covered");
        self.earlier_syncs = 0;
        std::mem::take(&mut self.syncs)
    }

    /// Keeps the memory of the SYNCs that [`take_syncs`](Self::take_syncs) returned.
    pub(super) fn keep_memory(&mut self, mut syncs: Vec<DeferredSync>) {
        syncs.clear();
        self.syncs = syncs;
    }

    /// Returns whether a SYNC is deferred.
    #[inline]
    pub(super) fn has_syncs(&self) -> bool {
        !self.syncs.is_empty()
    }

    /// Ends a round: every fence of the rounds before it is covered. These fences are due if nothing
    /// is outstanding. Otherwise they close the open epoch and wait, and `waits` gets the slot and
    /// the time of each that has a deadline.
    #[inline]
    pub(super) fn end_round(&mut self, waits: impl FnMut(u32, u64)) {
        debug_assert!(self.syncs.is_empty(), "a fence may have to wait for a SYNC");
        if !self.deferred.any_of_earlier_rounds() {
            return;
        }
        if self.epochs.is_clear() {
            self.deferred.make_due();
        } else {
            self.close_epoch(waits);
        }
    }

    #[cold]
    fn close_epoch(&mut self, mut waits: impl FnMut(u32, u64)) {
        let closed = self.epochs.close();
        for set in self.deferred.take_earlier() {
            let number = self.lists.take_free();
            for slot in set.timed {
                self.set_of[slot as usize] = number;
                waits(slot, self.expires[slot as usize]);
            }
            self.sets[number as usize] = set;
            self.lists.push(FIRST_EPOCH + closed, number);
        }
    }

    /// Admits a request to the open epoch. Returns the epoch, which
    /// [`complete`](Self::complete) takes.
    #[inline]
    pub(super) fn admit(&mut self) -> u32 {
        self.epochs.admit()
    }

    /// Records the end of a request in its epoch. Fences that waited for this request alone are then
    /// due.
    #[inline]
    pub(super) fn complete(&mut self, epoch: u32) {
        if self.epochs.complete(epoch) {
            self.end_epochs(epoch);
        }
    }

    /// Ends `epoch`, which is closed and has nothing outstanding, if it has no fence. Then ends the
    /// oldest epochs for as long as they are closed and have nothing outstanding: their fences are
    /// due.
    fn end_epochs(&mut self, epoch: u32) {
        if self.lists.is_empty(FIRST_EPOCH + epoch) {
            self.epochs.end(epoch);
        }
        while let Some(oldest) = self.epochs.oldest_if_done() {
            self.lists.append(FIRST_EPOCH + oldest, DUE);
            self.epochs.end(oldest);
        }
    }

    /// Removes a set of fences that are due, and returns it.
    #[inline]
    pub(super) fn pop_due(&mut self) -> Option<FenceSet> {
        match self.lists.first(DUE) {
            // These have been claimed first.
            Some(number) => Some(self.pop_ended(number)),
            None => self.deferred.pop_due(),
        }
    }

    fn pop_ended(&mut self, number: u32) -> FenceSet {
        let set = self.free(number);
        for slot in set.timed {
            self.set_of[slot as usize] = NONE;
        }
        set
    }

    /// Returns whether any fence is due.
    #[inline]
    pub(super) fn has_due(&self) -> bool {
        self.deferred.any_due() || !self.lists.is_empty(DUE)
    }

    /// Removes a fence whose deadline has passed. Returns whether a fence with a deadline waits
    /// there.
    pub(super) fn remove(&mut self, slot: u32) -> bool {
        let number = std::mem::replace(&mut self.set_of[slot as usize], NONE);
        let Some(set) = self.sets.get_mut(number as usize) else {
            return false;
        };
        set.fences.remove(slot);
        set.timed.remove(slot);
        if set.fences.is_empty() {
            let list = self.lists.list_if_alone(number);
            self.free(number);
            let epoch = list.and_then(|list| list.checked_sub(FIRST_EPOCH));
            if let Some(epoch) = epoch.filter(|&epoch| self.epochs.is_done(epoch)) {
                self.end_epochs(epoch);
            }
        }
        true
    }

    fn free(&mut self, number: u32) -> FenceSet {
        self.lists.remove(number);
        self.lists.give_back(number);
        std::mem::take(&mut self.sets[number as usize])
    }

    /// Returns the slots of all fences, in whatever state.
    pub(super) fn fences(&self) -> impl Iterator<Item = u32> + '_ {
        let sets = self.sets.iter().chain(self.deferred.iter());
        sets.flat_map(|set| set.fences)
    }

    /// Removes everything, at the end of service.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.sets.len() as u32);
    }
}
