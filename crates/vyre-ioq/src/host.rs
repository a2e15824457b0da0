//! The host's end: claims what is published, completes what it claimed.

mod announce;
mod doorbell;
mod shutdown;
mod sweep;

use core::ops::Range;

use crate::abi::status::{self, PUBLISHED};
use crate::abi::{GROUP_SLOTS as GROUP, SlotImage, word};
use crate::attach::{AttachError, Geometry, QueueLayout};
use crate::errno::Errno;
use crate::queue_header::{self as header, Features, Header, LoopState};
use crate::region::Region;
use crate::request::Op;
use crate::slot_set::SlotSet;
use crate::state::{self, Observation, PeerFault};
use crate::sync::Ordering;

pub use crate::slot_mask::{Claimed, Groups};

/// A claimed request: the slot, which the host now owes an outcome, and its words as they were at
/// the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which slot.
    pub slot: u32,
    /// The private copy. What the device stores later changes nothing in it.
    pub image: SlotImage,
}

/// How often the device broke the protocol, as far as the host saw. None of it was followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct HostFaults {
    /// [`PeerFault::UnknownStatus`]; a slot counts once until it is claimed next, however often
    /// it is swept.
    pub unknown_status: u64,
    /// [`PeerFault::ForgedClaim`]; a slot counts once for this and the above together.
    pub forged_claim: u64,
    /// [`PeerFault::Overwritten`]; seen, and counted, when the slot is completed.
    pub overwritten: u64,
}

impl HostFaults {
    /// All of them.
    pub const fn total(&self) -> u64 {
        self.unknown_status + self.forged_claim + self.overwritten
    }

    #[cold]
    const fn count(&mut self, fault: PeerFault) {
        let counter = match fault {
            PeerFault::UnknownStatus(_) => &mut self.unknown_status,
            PeerFault::ForgedClaim => &mut self.forged_claim,
            PeerFault::Overwritten(_) => &mut self.overwritten,
        };
        *counter = counter.saturating_add(1);
    }
}

/// An outcome for a slot that is owed none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("slot {slot} is owed no outcome: it was not claimed, or was completed already")]
pub struct NotOwed {
    /// The slot named.
    pub slot: u32,
}

/// The host's end of a queue.
///
/// There is one for each queue, and it belongs to one thread at a time. It keeps its own ledger of
/// the slots it serves: whatever the device stores, a claimed slot is served once and completed
/// once.
///
/// ```
/// use vyre_ioq::{Errno, LoopState, Queue, QueueLayout, Request};
///
/// let (mut host, device) = Queue::anonymous(QueueLayout::with_slots(8))?;
/// host.set_state(LoopState::Running);
/// let ticket = device.submit(Request::fence())?;
/// let mut claims = Vec::new();
/// host.claim_published(0..8, |claim| claims.push(claim));
/// for claim in claims {
///     let answer = Request::decode(&claim.image).map(|_| 0).map_err(|_| Errno::EINVAL);
///     host.complete(claim.slot, answer)?;
/// }
/// assert_eq!(device.take(ticket).expect("served").bytes(), Ok(0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct HostQueue {
    region: Region,
    geometry: Geometry,
    id: u64,
    features: Features,
    /// Set if outcomes carry a count or an errno.
    counts: bool,
    owed: SlotSet,
    /// Owed slots whose device has been told so.
    told: SlotSet,
    /// Slots that were owed at the last [`announce_lasting_claims`](Self::announce_lasting_claims),
    /// and have not been claimed anew since.
    lasting: SlotSet,
    faulty: SlotSet,
    /// Groups that are not looked at, until the device says that it uses them.
    unused: u64,
    in_flight: u32,
    beat: u32,
    state: LoopState,
    faults: HostFaults,
}

impl HostQueue {
    /// Makes an empty queue at the start of `region`. What the memory held is lost.
    ///
    /// # Errors
    /// [`AttachError`] if the layout or the region is unfit.
    pub fn create(region: Region, layout: &QueueLayout) -> Result<Self, AttachError> {
        let geometry = layout.check()?.check_region(&region)?;
        header::initialise(&region, layout);
        let (features, counts) = (layout.features(), layout.counts());
        Ok(Self::new(region, geometry, features, layout.id(), counts))
    }

    /// Takes over a bare queue (the layout of vyre 0.7) that a device has made, and that fills
    /// `region`. Requests already published are kept.
    ///
    /// The host writes STATUS and no other word of such a queue: CLAIMED as soon as it has claimed a
    /// request, then OK or ERROR. The device learns whether its request succeeded, and neither how many
    /// bytes were moved nor why it failed. [`attach_bare_with_counts`](Self::attach_bare_with_counts)
    /// is for devices that expect both.
    ///
    /// A slot that an earlier host left CLAIMED is neither served nor counted as a fault.
    ///
    /// # Errors
    /// [`AttachError::BareLength`] or [`AttachError::BadSlotCount`].
    pub fn attach_bare(region: Region) -> Result<Self, AttachError> {
        Self::take_over(region, false)
    }

    /// Takes over a bare queue as [`attach_bare`](Self::attach_bare) does, but stores bytes moved and
    /// errnos in COUNT, as in a queue with a header.
    ///
    /// Use this only for a device that stores COUNT anew with each request, such as one attached by
    /// [`DeviceQueue::attach_bare_with_counts`](crate::DeviceQueue::attach_bare_with_counts). A device
    /// of vyre 0.7 publishes again by STATUS alone: after a short read it would ask for that many bytes.
    ///
    /// # Errors
    /// [`AttachError::BareLength`] or [`AttachError::BadSlotCount`].
    pub fn attach_bare_with_counts(region: Region) -> Result<Self, AttachError> {
        Self::take_over(region, true)
    }

    fn take_over(region: Region, counts: bool) -> Result<Self, AttachError> {
        let geometry = Geometry::of_bare(&region)?;
        let mut host = Self::new(region, geometry, Features::empty(), 0, counts);
        // What an earlier host left CLAIMED is no fault of the device's.
        for slot in 0..geometry.slots() {
            if host.status(slot, Ordering::Relaxed) == status::CLAIMED {
                host.faulty.insert(slot);
            }
        }
        Ok(host)
    }

    fn new(region: Region, geometry: Geometry, features: Features, id: u64, counts: bool) -> Self {
        Self {
            region,
            geometry,
            id,
            features,
            counts,
            owed: SlotSet::new(),
            told: SlotSet::new(),
            lasting: SlotSet::new(),
            faulty: SlotSet::new(),
            unused: geometry.groups() & !1,
            in_flight: 0,
            beat: 0,
            state: LoopState::Starting,
            faults: HostFaults::default(),
        }
    }

    /// Where the slots are.
    #[inline]
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The name given by [`QueueLayout::with_id`].
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Features that the queue offers its device.
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Returns whether outcomes carry the bytes moved or an errno: always in a queue with a header, and in
    /// a bare one if it was asked for.
    pub const fn carries_counts(&self) -> bool {
        self.counts
    }

    /// Claimed slots that are still owed an outcome.
    #[inline]
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// What the device did against the protocol so far.
    pub const fn faults(&self) -> &HostFaults {
        &self.faults
    }

    /// Whether the host owes `slot` an outcome.
    pub fn is_owed(&self, slot: u32) -> bool {
        slot < self.geometry.slots() && self.owed.contains(slot)
    }

    /// Looks for requests without claiming them.
    pub fn published(&self) -> impl Iterator<Item = u32> + '_ {
        let unused = self.unused & !self.header().in_use(self.unused);
        (0..self.geometry.slots()).filter(move |&slot| {
            unused >> (slot / GROUP) & 1 == 0
                && !self.owed.contains(slot)
                && state::observe(false, self.status(slot, Ordering::Relaxed))
                    == Observation::Request
        })
    }

    /// Claims the requests that are published in `slots`, in order, and hands each to `sink`.
    /// Returns how many. Slots past the end are ignored.
    ///
    /// It is [`groups`](Self::groups), [`claim`](Self::claim), [`image`](Self::image) and
    /// [`renew`](Self::renew) in one. Where a FENCE or SYNC is claimed, what was published before it in
    /// a later slot of `slots` is claimed by the same call. What was published before it in an earlier
    /// slot, or in one outside `slots`, is there for the next call that looks there.
    #[inline]
    pub fn claim_published(&mut self, slots: Range<u32>, mut sink: impl FnMut(Claim)) -> u32 {
        let mut claimed = 0;
        let mut groups = self.groups(slots);
        while let Some(group) = groups.next() {
            let mut any_ordered = false;
            for slot in self.claim(group) {
                let image = self.image(slot);
                any_ordered |= Op::from_word(image.op).is_some_and(Op::is_ordered);
                sink(Claim { slot, image });
                claimed += 1;
            }
            if any_ordered {
                self.renew(&mut groups);
            }
        }
        claimed
    }

    /// The parts of `slots` where there may be requests, each inside a group: those of the first
    /// group, and of the others that the device uses by now. A group that it has never used costs
    /// one load instead of one for each slot.
    #[inline]
    pub fn groups(&mut self, slots: Range<u32>) -> Groups {
        Groups {
            left: self.groups_in_use(),
            gone: 0,
            slots: slots.start..slots.end.min(self.geometry.slots()),
        }
    }

    /// Adds to a walk over groups those that the device has come to use since it began, as far as
    /// they are still ahead. To be called when a FENCE or SYNC is found: a group may have been marked
    /// after the marks were read, and before the fence was published. The acquire that saw the fence
    /// makes such a mark visible.
    pub fn renew(&mut self, groups: &mut Groups) {
        groups.left |= self.groups_in_use() & !groups.gone;
    }

    #[inline]
    fn groups_in_use(&mut self) -> u64 {
        if self.unused != 0 {
            self.unused &= !self.header().in_use(self.unused);
        }
        self.geometry.groups() & !self.unused
    }

    /// Claims the requests that are published in `slots`, which are of one group; slots of other
    /// groups than the first one's are left alone. All of them are claimed, and owed an outcome,
    /// when this returns; [`image`](Self::image) has their words.
    ///
    /// Reads the status with acquire, which pairs with the release of
    /// [`DeviceQueue::publish`](crate::DeviceQueue::publish): the other words of the slot are the
    /// request's.
    #[inline]
    pub fn claim(&mut self, slots: Range<u32>) -> Claimed {
        let first = slots.start;
        let end = slots.end.min(self.geometry.slots());
        if first >= end {
            return Claimed { first, slots: 0 };
        }
        let found = self.look(first..end.min((first / GROUP + 1) * GROUP));
        if found.faults != 0 {
            self.count_faults(first, found.faults);
        }
        self.take_in(first, found.requests);
        Claimed {
            first,
            slots: found.requests,
        }
    }

    /// Completes a claimed slot with the bytes moved or with an errno. A queue without
    /// [counts](Self::carries_counts) tells the device OK or ERROR alone.
    ///
    /// Stores the status with release, after the count; it pairs with the acquire of
    /// [`DeviceQueue::poll`](crate::DeviceQueue::poll).
    ///
    /// # Errors
    /// [`NotOwed`], and nothing is stored, if the slot is not claimed.
    #[inline]
    pub fn complete(&mut self, slot: u32, result: Result<u32, Errno>) -> Result<(), NotOwed> {
        self.settle(slot)?;
        self.answer(slot, result, self.counts);
        Ok(())
    }

    /// Completes several slots, in order. The stores to them come together, with nothing between:
    /// each has to fetch a line from the device's core, and stores that wait for that hold up all
    /// others.
    ///
    /// # Errors
    /// [`NotOwed`] for the first slot that is not claimed. All others are completed.
    #[inline]
    pub fn complete_batch(
        &mut self,
        outcomes: &[(u32, Result<u32, Errno>)],
    ) -> Result<(), NotOwed> {
        for (count, &(slot, _)) in outcomes.iter().enumerate() {
            if let Err(not_owed) = self.settle(slot) {
                self.answer_all(&outcomes[..count]);
                self.complete_each(&outcomes[count + 1..]);
                return Err(not_owed);
            }
        }
        self.answer_all(outcomes);
        Ok(())
    }

    /// Completes slots of one group with the same outcome, for less than one by one.
    ///
    /// # Errors
    /// [`NotOwed`] for the first slot that is not claimed. All others are completed.
    #[inline]
    pub fn complete_all(
        &mut self,
        slots: &Claimed,
        result: Result<u32, Errno>,
    ) -> Result<(), NotOwed> {
        if slots.slots == 0 {
            return Ok(());
        }
        let in_ledger = self.owed.group_bits(slots.first / GROUP) >> (slots.first % GROUP);
        let owed = Claimed {
            slots: slots.slots & in_ledger,
            ..*slots
        };
        self.owed.remove_bits(owed.first, owed.slots);
        self.in_flight -= owed.slots.count_ones();
        owed.clone().for_each(|slot| self.blame(slot));
        let counts = self.counts;
        owed.clone()
            .for_each(|slot| self.answer(slot, result, counts));
        let mut rest = Claimed {
            slots: slots.slots & !owed.slots,
            ..*slots
        };
        rest.next().map_or(Ok(()), |slot| Err(NotOwed { slot }))
    }

    #[inline]
    fn answer_all(&self, settled: &[(u32, Result<u32, Errno>)]) {
        let counts = self.counts;
        for &(slot, result) in settled {
            self.answer(slot, result, counts);
        }
    }

    /// What is left of a batch of which one slot was owed nothing.
    #[cold]
    fn complete_each(&mut self, outcomes: &[(u32, Result<u32, Errno>)]) {
        for &(slot, result) in outcomes {
            let _ = self.complete(slot, result);
        }
    }

    /// Takes a slot out of the ledger.
    #[inline]
    fn settle(&mut self, slot: u32) -> Result<(), NotOwed> {
        if slot >= self.geometry.slots() || !self.owed.remove(slot) {
            return Err(NotOwed { slot });
        }
        self.in_flight -= 1;
        self.blame(slot);
        Ok(())
    }

    /// Counts what the device stored in a slot that it had no business with.
    #[inline]
    fn blame(&mut self, slot: u32) {
        let found = self.status(slot, Ordering::Relaxed);
        if let Observation::Fault(fault) = state::observe(true, found) {
            self.faults.count(fault);
        }
    }

    /// Stores an outcome. `counts` is that of the queue, which callers with many outcomes load once.
    #[inline]
    fn answer(&self, slot: u32, result: Result<u32, Errno>, counts: bool) {
        let words = self.region.words::<8>(self.geometry.slot_word(slot));
        let (count, outcome) = match result {
            Ok(moved) => (moved, status::OK),
            Err(errno) => (errno.raw(), status::ERROR),
        };
        // A device of vyre 0.7 relies on finding COUNT as it left it.
        if counts {
            words.store(word::COUNT, count, Ordering::Relaxed);
        }
        words.store(word::STATUS, outcome, Ordering::Release);
    }

    /// Tells the device what the host is. Release: outcomes stored before it are seen before it.
    pub fn set_state(&mut self, state: LoopState) {
        self.state = state;
        self.header().set_state(state);
    }

    /// What the device was told last.
    pub const fn state(&self) -> LoopState {
        self.state
    }

    /// Shows the device that the host lives. To be called at least a few times a second; each call
    /// costs one store to a line that devices rarely read.
    #[inline]
    pub fn beat(&mut self) {
        self.beat = self.beat.wrapping_add(1);
        self.header().set_heartbeat(self.beat);
    }

    #[inline]
    fn header(&self) -> Header<'_> {
        Header::of(&self.region, &self.geometry)
    }

    #[inline]
    fn status(&self, slot: u32, order: Ordering) -> u32 {
        self.region
            .words::<8>(self.geometry.slot_word(slot))
            .load(word::STATUS, order)
    }

    /// A private copy of a claimed slot: each word is read once, so call it once. Relaxed: the
    /// status was read before, with acquire. That of a slot which is not claimed is any words.
    ///
    /// # Panics
    /// If the queue has no such slot.
    #[inline]
    pub fn image(&self, slot: u32) -> SlotImage {
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
        // Known, and not to be read twice.
        words[word::STATUS] = PUBLISHED;
        bytemuck::cast(words)
    }

    /// Takes slots into the ledger. With a header, nothing is stored in them: the ledger is what says
    /// that they are claimed, and a store would take their lines away from the device.
    #[inline]
    fn take_in(&mut self, first: u32, slots: u64) {
        self.owed.insert_bits(first, slots);
        self.told.remove_bits(first, slots);
        self.lasting.remove_bits(first, slots);
        self.faulty.remove_bits(first, slots);
        self.in_flight += slots.count_ones();
        if self.geometry.is_bare() && slots != 0 {
            self.announce(0, slots << first);
        }
    }
}
