//! The host's end: claims what is published, completes what it claimed.

use core::ops::Range;
use core::sync::atomic::Ordering;

use crate::abi::{GROUP_SLOTS as GROUP, SlotImage, status, word};
use crate::attach::{AttachError, Geometry, QueueLayout};
use crate::errno::Errno;
use crate::header::{self, Header, LoopState};
use crate::ledger::SlotSet;
use crate::region::Region;
use crate::state::{self, Observation, PeerFault};

/// Slots whose statuses are looked at together before any is judged.
const CHUNK: u32 = 8;

/// What a look at a group of slots found: a bit for each.
#[derive(Clone, Copy)]
struct Found {
    requests: u64,
    faults: u64,
}

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
    owed: SlotSet,
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
        Ok(Self::new(region, geometry, layout.id()))
    }

    /// Takes over a bare queue (the layout of vyre 0.7) that a device has made, and that fills
    /// `region`. Requests already published are kept.
    ///
    /// # Errors
    /// [`AttachError::BareLength`] or [`AttachError::BadSlotCount`].
    pub fn attach_bare(region: Region) -> Result<Self, AttachError> {
        let geometry = Geometry::of_bare(&region)?;
        Ok(Self::new(region, geometry, 0))
    }

    fn new(region: Region, geometry: Geometry, id: u64) -> Self {
        Self {
            region,
            geometry,
            id,
            owed: SlotSet::new(),
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
    /// Reads a status with acquire, which pairs with the release of
    /// [`DeviceQueue::publish`](crate::DeviceQueue::publish): the other words of the slot are the
    /// request's. A group of slots that the device has never used costs one load instead of one for
    /// each slot.
    #[inline]
    pub fn claim_published(&mut self, slots: Range<u32>, mut sink: impl FnMut(Claim)) -> u32 {
        let end = slots.end.min(self.geometry.slots());
        let mut claimed = 0;
        let mut groups = self.groups_in_use();
        while groups != 0 {
            let group = groups.trailing_zeros();
            groups &= groups - 1;
            let first = (group * GROUP).max(slots.start);
            let next = ((group + 1) * GROUP).min(end);
            if first >= next {
                continue;
            }
            let found = self.look(first..next);
            if found.faults != 0 {
                self.count_faults(first, found.faults);
            }
            // All of them before the first is handed on: should the sink panic, all are owed.
            self.claim(first, found.requests);
            claimed += found.requests.count_ones();
            for slot in bits(first, found.requests) {
                let image = self.image(slot);
                sink(Claim { slot, image });
            }
        }
        claimed
    }

    /// Asks the device which of the other groups it uses by now; all that it uses.
    #[inline]
    fn groups_in_use(&mut self) -> u64 {
        if self.unused != 0 {
            self.unused &= !self.header().in_use(self.unused);
        }
        self.geometry.groups() & !self.unused
    }

    /// Looks at the statuses of up to a group of slots, leaving out those that are owed an
    /// outcome. The loads are independent of each other, so that their cache misses overlap.
    #[inline]
    fn look(&self, slots: Range<u32>) -> Found {
        let owed = self.owed.bits(slots.clone());
        let nothing = Found {
            requests: 0,
            faults: 0,
        };
        if owed.count_ones() as usize == slots.len() {
            return nothing;
        }
        let mut found = nothing;
        let mut first = slots.start;
        while first < slots.end {
            let whole = slots.end - first >= CHUNK;
            let chunk = match (whole, self.geometry.is_bare()) {
                (true, false) => self.judge::<8, { 8 * 16 }>(first),
                (true, true) => self.judge::<8, { 8 * 8 }>(first),
                (false, false) => self.judge::<1, 16>(first),
                (false, true) => self.judge::<1, 8>(first),
            };
            found.requests |= chunk.requests << (first - slots.start);
            found.faults |= chunk.faults << (first - slots.start);
            first += if whole { CHUNK } else { 1 };
        }
        found.requests &= !owed;
        found.faults &= !owed;
        found
    }

    /// Judges the statuses of `SLOTS` slots, which take `WORDS` words.
    #[inline]
    fn judge<const SLOTS: usize, const WORDS: usize>(&self, first: u32) -> Found {
        let words = self.region.words::<WORDS>(self.geometry.slot_word(first));
        let status = |slot, order| words.load(slot * (WORDS / SLOTS) + word::STATUS, order);
        let mut found = Found {
            requests: 0,
            faults: 0,
        };
        // Most often there is nothing: EMPTY, and OK that nobody has taken. Relaxed: whatever is
        // decided on is loaded again.
        let any = (0..SLOTS).fold(0, |any, slot| any | status(slot, Ordering::Relaxed));
        if any & !status::OK == 0 {
            return found;
        }
        for slot in 0..SLOTS {
            // Acquire: the rest of a published slot is read after this.
            let observation = state::observe(false, status(slot, Ordering::Acquire));
            found.requests |= u64::from(observation == Observation::Request) << slot;
            found.faults |= u64::from(matches!(observation, Observation::Fault(_))) << slot;
        }
        found
    }

    #[cold]
    fn count_faults(&mut self, first: u32, faults: u64) {
        for slot in bits(first, faults) {
            // Loaded again: a device that changed it meanwhile has not earned a better count.
            let found = self.status(slot, Ordering::Relaxed);
            if let Observation::Fault(fault) = state::observe(false, found)
                && self.faulty.insert(slot)
            {
                self.faults.count(fault);
            }
        }
    }

    /// Answers a claimed slot: with the bytes moved, or with an errno.
    ///
    /// Stores the status with release, after the count; it pairs with the acquire of
    /// [`DeviceQueue::poll`](crate::DeviceQueue::poll).
    ///
    /// # Errors
    /// [`NotOwed`], and nothing is stored, if the slot is not claimed.
    #[inline]
    pub fn complete(&mut self, slot: u32, result: Result<u32, Errno>) -> Result<(), NotOwed> {
        if slot >= self.geometry.slots() || !self.owed.remove(slot) {
            return Err(NotOwed { slot });
        }
        self.in_flight -= 1;
        let words = self.region.words::<8>(self.geometry.slot_word(slot));
        let found = words.load(word::STATUS, Ordering::Relaxed);
        if let Observation::Fault(fault) = state::observe(true, found) {
            self.faults.count(fault);
        }
        let (count, outcome) = match result {
            Ok(moved) => (moved, status::OK),
            Err(errno) => (errno.raw(), status::ERROR),
        };
        words.store(word::COUNT, count, Ordering::Relaxed);
        words.store(word::STATUS, outcome, Ordering::Release);
        Ok(())
    }

    /// Completes several slots, in order.
    ///
    /// # Errors
    /// [`NotOwed`] for the first slot that is not claimed; those before it are completed.
    pub fn complete_batch(
        &mut self,
        outcomes: impl IntoIterator<Item = (u32, Result<u32, Errno>)>,
    ) -> Result<(), NotOwed> {
        outcomes
            .into_iter()
            .try_for_each(|(slot, result)| self.complete(slot, result))
    }

    /// Completes every slot that is still owed an outcome with `errno`; how many.
    pub fn complete_owed(&mut self, errno: Errno) -> u32 {
        let owed = self.owed.clone();
        owed.iter()
            .filter(|&slot| self.complete(slot, Err(errno)).is_ok())
            .count() as u32
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

    /// Reads each word of a published slot once; the status was read before, with acquire, so that
    /// relaxed loads are enough for the rest.
    #[inline]
    fn image(&self, slot: u32) -> SlotImage {
        let first = self.geometry.slot_word(slot);
        let words = self.region.words::<8>(first);
        let load = |word| words.load(word, Ordering::Relaxed);
        let mut image = SlotImage {
            op: load(word::OP),
            source: load(word::SOURCE),
            destination: load(word::DESTINATION),
            file_offset_low: load(word::FILE_OFFSET_LOW),
            file_offset_high: load(word::FILE_OFFSET_HIGH),
            count: load(word::COUNT),
            status: status::PUBLISHED,
            tag: load(word::TAG),
            ..SlotImage::default()
        };
        if !self.geometry.is_bare() {
            let words = self.region.words::<16>(first);
            let load = |word| words.load(word, Ordering::Relaxed);
            image.buffer_offset_low = load(word::BUFFER_OFFSET_LOW);
            image.buffer_offset_high = load(word::BUFFER_OFFSET_HIGH);
            image.flags = load(word::FLAGS);
            image.deadline = load(word::DEADLINE);
            image.reserved = core::array::from_fn(|index| load(word::RESERVED + index));
        }
        image
    }

    /// Takes slots into the ledger and tells the device. Relaxed: CLAIMED orders nothing, the
    /// device waits for the outcome. The stores come together, with nothing between them: each has
    /// to fetch a line from the device's core, and stores that wait for that hold up all others.
    #[inline]
    fn claim(&mut self, first: u32, slots: u64) {
        self.owed.insert_bits(first, slots);
        self.faulty.remove_bits(first, slots);
        self.in_flight += slots.count_ones();
        for slot in bits(first, slots) {
            self.region.words::<8>(self.geometry.slot_word(slot)).store(
                word::STATUS,
                status::CLAIMED,
                Ordering::Relaxed,
            );
        }
    }
}

/// The slots whose bits are set, the lowest bit being slot `first`.
#[inline]
fn bits(first: u32, mut bits: u64) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        let slot = first + (bits != 0).then(|| bits.trailing_zeros())?;
        bits &= bits - 1;
        Some(slot)
    })
}

impl Drop for HostQueue {
    /// A host end that goes without having said so has failed: no device may wait for it.
    fn drop(&mut self) {
        if !self.state.is_gone() {
            self.complete_owed(Errno::ECANCELED);
            self.set_state(LoopState::Failed);
        }
    }
}
