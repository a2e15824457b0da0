//! The device end of a queue: it reserves slots, publishes requests, polls for outcomes and gives slots
//! back.

pub(crate) mod abandon;
mod arm;
mod doorbell;
mod poll;
#[cfg(feature = "std")]
pub(crate) mod wait;

use core::sync::atomic::AtomicUsize as Counter;

use crate::abi::{GROUP_SLOTS, MAX_SLOTS, status, word};
use crate::attach::check_header;
use crate::errno::Errno;
use crate::error::AttachError;
use crate::layout::{Features, Geometry};
use crate::queue_header::{Header, LoopState};
use crate::region::Region;
use crate::request::Request;
use crate::state::State;
use crate::sync::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

// Machine words: not every machine has 64-bit atomics.
const LOCK_WORDS: usize = MAX_SLOTS.div_ceil(usize::BITS) as usize;
const GROUPS: usize = (MAX_SLOTS / GROUP_SLOTS) as usize;

/// Identity of the next [`DeviceQueue`] of the process. A reservation or a ticket carries the identity of
/// its queue. An address would not do, since a later queue may get the same memory.
static NEXT_IDENTITY: Counter = Counter::new(0);

/// Error of a queue in which every slot is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "all {slots} slots are in use; take outcomes or abandon requests, or create the queue with more slots"
)]
pub struct QueueFull {
    /// Number of slots of the queue.
    pub slots: u32,
}

/// Right to publish one request in a slot that is reserved for it.
///
/// A lane reserves a slot first if it must know the slot before it publishes, for example because each
/// slot has a buffer of its own. [`DeviceQueue::submit`] reserves and publishes at once.
///
/// ```
/// use vyre_ioq::{Queue, QueueLayout, Request};
///
/// let (_host, device) = Queue::anonymous(QueueLayout::with_slots(2))?;
/// let reservation = device.reserve()?;
/// assert_eq!(reservation.slot(), 0);
/// let ticket = device.publish(reservation, &Request::fence());
/// assert_eq!(ticket.slot(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A reservation is good for one request. After that, the slot belongs to the host:
///
/// ```compile_fail,E0382
/// use vyre_ioq::{Queue, QueueLayout, Request};
///
/// let (_host, device) = Queue::anonymous(QueueLayout::with_slots(2))?;
/// let reservation = device.reserve()?;
/// let ticket = device.publish(reservation, &Request::fence());
/// let again = device.publish(reservation, &Request::fence());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A dropped reservation takes its slot out of use for the life of the [`DeviceQueue`]. Give back an
/// unused reservation with [`DeviceQueue::unreserve`].
#[derive(Debug)]
#[must_use = "a dropped reservation loses its slot"]
pub struct Reservation {
    slot: u32,
    queue: usize,
}

impl Reservation {
    /// Returns the slot that is reserved.
    pub const fn slot(&self) -> u32 {
        self.slot
    }
}

/// Right to the outcome of one published request.
///
/// A dropped ticket takes its slot out of use for the life of the [`DeviceQueue`]. To give up a request,
/// call [`DeviceQueue::abandon`] instead. An [`OwnedTicket`](crate::OwnedTicket) does so when it is dropped.
#[derive(Debug)]
#[must_use = "a dropped ticket loses its slot; abandon it, or use an owned one"]
pub struct Ticket {
    slot: u32,
    queue: usize,
}

impl Ticket {
    /// Returns the slot that holds the request.
    pub const fn slot(&self) -> u32 {
        self.slot
    }
}

/// Outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "an outcome may be an error"]
pub struct Outcome {
    /// Tag of the request.
    pub tag: u32,
    /// Bytes moved, or the errno of the failure.
    pub result: Result<u32, Errno>,
}

impl Outcome {
    /// Returns the bytes moved.
    ///
    /// # Errors
    /// The errno of the outcome if the request failed.
    pub const fn bytes(&self) -> Result<u32, Errno> {
        self.result
    }
}

/// Device end of a queue for the threads of a host process. All lanes share it.
///
/// A bitmap in private memory says which slots are reserved, since no read-modify-write may cross the
/// boundary to the host. So a queue has one `DeviceQueue`, however many lanes share it.
#[derive(Debug)]
pub struct DeviceQueue {
    region: Region,
    geometry: Geometry,
    features: Features,
    /// Set if outcomes carry a count or an errno.
    counts: bool,
    id: u64,
    identity: usize,
    locks: [AtomicUsize; LOCK_WORDS],
    /// One bit for each locked slot whose request was abandoned.
    abandoned: [AtomicUsize; LOCK_WORDS],
    /// Groups that are marked as in use in the header.
    in_use: [AtomicBool; GROUPS],
    /// Value that was stored last in the doorbell word.
    rings: AtomicU32,
    /// Value that was stored last in the word ARMED.
    arms: AtomicU32,
    /// Set if the host was told that threads of the device sleep.
    expects: AtomicBool,
    /// Threads that sleep on the futex.
    #[cfg(all(feature = "std", target_os = "linux", not(loom)))]
    sleepers: AtomicU32,
}

impl DeviceQueue {
    /// Attaches to a queue that a host has created at the start of `region`.
    ///
    /// # Errors
    /// The variant of [`AttachError`] for the rule that the memory or its header breaks, for example
    /// [`AttachError::BadMagic`] if there is no queue at the start of `region`.
    pub fn attach(region: Region) -> Result<Self, AttachError> {
        let (geometry, features, id) = check_header(&region)?;
        Ok(Self::new(region, geometry, features, id, true))
    }

    /// Attaches to a bare queue (the layout of vyre 0.7) that fills `region` and whose host writes STATUS
    /// alone.
    ///
    /// An [`Outcome`] then says whether the request succeeded and nothing else. `Ok` carries the bytes
    /// requested, though fewer may have been moved: at the end of a file, or if an error came after some
    /// bytes. Every error is [`Errno::EIO`].
    ///
    /// # Errors
    /// [`AttachError::BareLength`] if the length of `region` is not a multiple of
    /// [`abi::BARE_SLOT_BYTES`](crate::abi::BARE_SLOT_BYTES);
    /// [`AttachError::BadSlotCount`] if `region` is empty or holds too many slots.
    pub fn attach_bare(region: Region) -> Result<Self, AttachError> {
        let geometry = Geometry::of_bare(&region)?;
        Ok(Self::new(region, geometry, Features::empty(), 0, false))
    }

    /// Attaches to a bare queue whose host stores bytes moved and errnos in COUNT, such as one attached by
    /// [`HostQueue::attach_bare_with_counts`](crate::HostQueue::attach_bare_with_counts).
    ///
    /// With any other host, the count of an outcome is that of the request, and an errno means nothing.
    ///
    /// # Errors
    /// The same as for [`attach_bare`](Self::attach_bare).
    pub fn attach_bare_with_counts(region: Region) -> Result<Self, AttachError> {
        let geometry = Geometry::of_bare(&region)?;
        Ok(Self::new(region, geometry, Features::empty(), 0, true))
    }

    pub(crate) fn new(
        region: Region,
        geometry: Geometry,
        features: Features,
        id: u64,
        counts: bool,
    ) -> Self {
        // An earlier device end of this queue has rung the doorbell this often.
        let header = Header::of(&region, &geometry);
        let (rings, arms) = (header.doorbell(), header.armed());
        Self {
            region,
            geometry,
            features,
            counts,
            id,
            // Relaxed: it matters only that the values differ.
            identity: NEXT_IDENTITY.fetch_add(1, Ordering::Relaxed),
            locks: core::array::from_fn(|_| AtomicUsize::new(0)),
            abandoned: core::array::from_fn(|_| AtomicUsize::new(0)),
            // The host sweeps the first group without a mark.
            in_use: core::array::from_fn(|group| AtomicBool::new(group == 0)),
            rings: AtomicU32::new(rings),
            arms: AtomicU32::new(arms),
            expects: AtomicBool::new(false),
            #[cfg(all(feature = "std", target_os = "linux", not(loom)))]
            sleepers: AtomicU32::new(0),
        }
    }

    /// Returns the location of the slots.
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Returns the features that both ends know.
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Returns whether outcomes carry the bytes moved or an errno. See [`attach_bare`](Self::attach_bare).
    pub const fn carries_counts(&self) -> bool {
        self.counts
    }

    /// Returns the identifier that the creator gave the queue, or zero for a bare queue.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Returns the state that the host has published, or `None` for a bare queue.
    pub fn host_state(&self) -> Option<LoopState> {
        Header::of(&self.region, &self.geometry).state()
    }

    /// Returns the heartbeat, a counter that moves while the host is alive, or `None` for a bare queue.
    pub fn host_heartbeat(&self) -> Option<u32> {
        Header::of(&self.region, &self.geometry).heartbeat()
    }

    /// Reserves a slot and publishes a request in it.
    ///
    /// # Errors
    /// [`QueueFull`] if every slot is in use.
    pub fn submit(&self, request: Request) -> Result<Ticket, QueueFull> {
        let reservation = self.reserve()?;
        Ok(self.publish(reservation, &request))
    }

    /// Reserves the lowest free slot, so that the slots in use lie close together. If no slot is free, takes
    /// back an [abandoned](Self::abandon) one that has an outcome.
    ///
    /// # Errors
    /// [`QueueFull`] if every slot is in use and no abandoned request has an outcome.
    pub fn reserve(&self) -> Result<Reservation, QueueFull> {
        let slots = self.geometry.slots();
        let firsts = (0..slots).step_by(usize::BITS as usize);
        for (first, locks) in firsts.zip(&self.locks) {
            if let Some(slot) = self.lock_free_slot(first, locks) {
                self.mark_in_use(slot);
                let queue = self.identity;
                return Ok(Reservation { slot, queue });
            }
        }
        self.reclaim().ok_or(QueueFull { slots })
    }

    /// Locks the lowest free slot of those that a word of locks covers. `first` is the lowest slot
    /// of the word.
    #[inline]
    fn lock_free_slot(&self, first: u32, locks: &AtomicUsize) -> Option<u32> {
        let past_the_end = usize::MAX
            .checked_shl(self.geometry.slots() - first)
            .unwrap_or(0);
        let mut unusable = past_the_end;
        loop {
            let bit = (locks.load(Ordering::Relaxed) | unusable).trailing_ones();
            if bit == usize::BITS {
                return None;
            }
            // Acquire, paired with the release in `unlock`: the last user took its outcome before this
            // one publishes.
            if locks.fetch_or(1 << bit, Ordering::Acquire) & 1 << bit != 0 {
                continue;
            }
            let slot = first + bit;
            if self.is_free(slot) {
                return Some(slot);
            }
            self.unlock(slot);
            unusable |= 1 << bit;
        }
    }

    /// Gives back a reserved slot without publishing in it.
    ///
    /// # Panics
    /// If the reservation comes from another queue.
    #[expect(clippy::needless_pass_by_value, reason = "a ticket is used up")]
    pub fn unreserve(&self, reservation: Reservation) {
        self.assert_ours(reservation.queue);
        self.unlock(reservation.slot);
    }

    /// Publishes a request in a reserved slot. Returns the ticket, which is the right to its outcome.
    ///
    /// The status is stored last, with release. It pairs with the acquire of
    /// [`HostQueue::claim`](crate::HostQueue::claim): the host sees everything that the device wrote
    /// before, including the bytes of a WRITE.
    ///
    /// A slot of a bare queue has no room for the buffer offset, the flags and the deadline. They are left
    /// out there.
    ///
    /// # Panics
    /// If the reservation comes from another queue.
    #[inline]
    #[expect(clippy::needless_pass_by_value, reason = "a ticket is used up")]
    pub fn publish(&self, reservation: Reservation, request: &Request) -> Ticket {
        let Reservation { slot, queue } = reservation;
        self.assert_ours(queue);
        let first = self.geometry.slot_word(slot);
        let image: [u32; 16] = bytemuck::cast(request.encode());
        if !self.geometry.is_bare() {
            let words = self.region.words::<16>(first);
            for (word, &value) in image.iter().enumerate().skip(8) {
                words.store(word, value, Ordering::Relaxed);
            }
        }
        let words = self.region.words::<8>(first);
        for (word, &value) in image.iter().enumerate().take(8) {
            if word != word::STATUS {
                words.store(word, value, Ordering::Relaxed);
            }
        }
        words.store(word::STATUS, status::PUBLISHED, Ordering::Release);
        Ticket { slot, queue }
    }

    /// Returns whether a slot that was just locked can be used. It cannot while it holds a request of an
    /// earlier device end of the same queue. The next publication replaces an outcome.
    ///
    /// Acquire, paired with the release in `store_outcome` of the host end: the slot and its buffer are used
    /// after everything that the host did for the earlier request.
    #[inline]
    fn is_free(&self, slot: u32) -> bool {
        let words = self.region.words::<8>(self.geometry.slot_word(slot));
        !matches!(
            State::from_word(words.load(word::STATUS, Ordering::Acquire)),
            Some(State::Published | State::Claimed)
        )
    }

    /// Marks the group of a slot as in use, before anything is published there.
    #[inline]
    fn mark_in_use(&self, slot: u32) {
        let group = slot / GROUP_SLOTS;
        let marked = &self.in_use[group as usize];
        // Acquire, paired with the release below: the mark of another lane comes before the publication of
        // this one, so that a host that sees the publication sees the mark.
        if !marked.load(Ordering::Acquire) {
            Header::of(&self.region, &self.geometry).mark_in_use(group);
            marked.store(true, Ordering::Release);
        }
    }

    /// Gives a slot back. Release, paired with the acquire in `lock_free_slot`.
    #[inline]
    fn unlock(&self, slot: u32) {
        let bit = 1 << (slot % usize::BITS);
        self.locks[(slot / usize::BITS) as usize].fetch_and(!bit, Ordering::Release);
    }

    #[inline]
    fn assert_ours(&self, queue: usize) {
        assert_eq!(
            queue, self.identity,
            "the slot was reserved in another queue"
        );
    }
}
