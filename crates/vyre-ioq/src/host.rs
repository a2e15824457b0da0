//! The host end of a queue: it claims published requests and completes what it has claimed.

mod announce;
pub(crate) mod claim;
pub(crate) mod complete;
mod doorbell;
mod shutdown;
pub(crate) mod sweep;
mod wake;

use core::task::Waker;

use crate::abi::{status, word};
use crate::error::AttachError;
use crate::faults::HostFaults;
use crate::layout::{Features, Geometry, QueueLayout};
use crate::queue_header::{self, Header, LoopState};
use crate::region::Region;
use crate::slot_set::SlotSet;
use crate::sync::Ordering;

/// Host end of a queue.
///
/// A queue has one host end, which belongs to one thread at a time. It keeps its own ledger of the slots
/// that it serves. Whatever the device stores, a claimed slot is served once and completed once.
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
///     let result = Request::decode(&claim.image).map(|_| 0).map_err(|_| Errno::EINVAL);
///     host.complete(claim.slot, result)?;
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
    /// Owed slots in which CLAIMED is stored.
    announced: SlotSet,
    /// Slots that were owed at the last [`announce_lasting_claims`](Self::announce_lasting_claims) and
    /// have not been claimed again since.
    lasting: SlotSet,
    /// Slots whose fault has been counted since their last claim.
    faulty: SlotSet,
    /// Groups that the sweep leaves out until the device marks them as in use.
    unused: u64,
    owed_slots: u32,
    beat: u32,
    state: LoopState,
    faults: HostFaults,
    /// Number of the last sleep of the device that it was woken from.
    woken: u32,
    wakeups: u32,
    /// Wakes the device, instead of the futex.
    waker: Option<Waker>,
}

impl HostQueue {
    /// Creates an empty queue at the start of `region`. The previous contents are lost.
    ///
    /// # Errors
    /// [`AttachError::BadSlotCount`] if the layout has no slots or too many;
    /// [`AttachError::Misaligned`] if the layout has a header and `region` is not aligned to a page;
    /// [`AttachError::TooShort`] if `region` is smaller than [`QueueLayout::bytes`].
    pub fn create(region: Region, layout: &QueueLayout) -> Result<Self, AttachError> {
        let geometry = layout.check()?.check_region(&region)?;
        queue_header::initialise(&region, layout);
        let (features, counts) = (layout.features(), layout.counts());
        Ok(Self::new(region, geometry, features, layout.id(), counts))
    }

    /// Attaches to a bare queue (the layout of vyre 0.7) that a device has created and that fills
    /// `region`. Requests that are already published are kept.
    ///
    /// The host writes no other word of such a queue than STATUS: CLAIMED as soon as it has claimed a
    /// request, then OK or ERROR. The device learns whether a request succeeded, but neither how many bytes
    /// were moved nor why it failed. [`attach_bare_with_counts`](Self::attach_bare_with_counts) is for
    /// devices that expect both.
    ///
    /// A slot that an earlier host left CLAIMED is neither served nor counted as a fault.
    ///
    /// # Errors
    /// [`AttachError::BareLength`] if the length of `region` is not a multiple of
    /// [`abi::BARE_SLOT_BYTES`](crate::abi::BARE_SLOT_BYTES);
    /// [`AttachError::BadSlotCount`] if `region` is empty or holds too many slots.
    pub fn attach_bare(region: Region) -> Result<Self, AttachError> {
        Self::take_over(region, false)
    }

    /// Attaches to a bare queue as [`attach_bare`](Self::attach_bare) does, and stores bytes moved and
    /// errnos in COUNT, as in a queue with a header.
    ///
    /// Use this only for a device that stores COUNT with each request, such as one attached by
    /// [`DeviceQueue::attach_bare_with_counts`](crate::DeviceQueue::attach_bare_with_counts). A device
    /// of vyre 0.7 publishes again by STATUS alone. After a short read it would ask for the count of that
    /// read.
    ///
    /// # Errors
    /// The same as for [`attach_bare`](Self::attach_bare).
    pub fn attach_bare_with_counts(region: Region) -> Result<Self, AttachError> {
        Self::take_over(region, true)
    }

    fn take_over(region: Region, counts: bool) -> Result<Self, AttachError> {
        let geometry = Geometry::of_bare(&region)?;
        let mut host = Self::new(region, geometry, Features::empty(), 0, counts);
        // An earlier host left these slots CLAIMED; that is no fault of the device.
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
            announced: SlotSet::new(),
            lasting: SlotSet::new(),
            faulty: SlotSet::new(),
            unused: geometry.groups() & !1,
            owed_slots: 0,
            beat: 0,
            state: LoopState::Starting,
            faults: HostFaults::default(),
            woken: 0,
            wakeups: 0,
            waker: None,
        }
    }

    /// Returns a host end of no queue: without slots and without memory, so that no request is ever found there. A loop
    /// keeps it in the place of a queue that it has given back.
    ///
    /// ```
    /// use vyre_ioq::HostQueue;
    ///
    /// let mut vacant = HostQueue::vacant();
    /// assert_eq!(vacant.geometry().slots(), 0);
    /// assert_eq!(vacant.sweep(0..u32::MAX).next(), None);
    /// ```
    pub fn vacant() -> Self {
        let geometry = Geometry::bare(0);
        Self::new(Region::empty(), geometry, Features::empty(), 0, false)
    }

    /// Returns the addresses of the queue in this process. Two queues that are served at the same time must not share
    /// any.
    pub fn addresses(&self) -> core::ops::Range<usize> {
        let first = self.region.as_ptr().addr();
        first..first.saturating_add(self.geometry.bytes())
    }

    /// Returns the location of the slots.
    #[inline]
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Returns the identifier set by [`QueueLayout::with_id`], or zero for a bare queue.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Returns the features that the queue offers to its device.
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Returns whether outcomes carry the bytes moved or an errno. A queue with a header always does; a
    /// bare queue does if it was attached or created so.
    pub const fn carries_counts(&self) -> bool {
        self.counts
    }

    /// Returns the number of claimed slots that are still owed an outcome.
    #[inline]
    pub const fn owed(&self) -> u32 {
        self.owed_slots
    }

    /// Returns the counts of what the device has done against the protocol so far.
    pub const fn faults(&self) -> &HostFaults {
        &self.faults
    }

    /// Returns whether the host owes `slot` an outcome.
    pub fn is_owed(&self, slot: u32) -> bool {
        slot < self.geometry.slots() && self.owed.contains(slot)
    }

    /// Publishes the state of the host. Release: a device that sees the state also sees every outcome that
    /// was stored before it. A device that sleeps is woken if the state is the last one.
    pub fn set_state(&mut self, state: LoopState) {
        self.state = state;
        self.header().set_state(state);
        if state.is_gone() {
            self.wake_device_at_end();
        }
    }

    /// Returns the state that was published last.
    pub const fn state(&self) -> LoopState {
        self.state
    }

    /// Advances the heartbeat, which shows the device that the host is alive.
    ///
    /// Call this at least a few times a second. Each call costs one store to a line that devices rarely
    /// read.
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
}
