//! The device's end: reserves a slot, publishes a request, polls for the outcome, gives it back.

use core::sync::atomic::AtomicUsize as Counter;

use crate::abi::{GROUP_SLOTS, MAX_SLOTS, status, word};
use crate::attach::{AttachError, Geometry, check_header};
use crate::errno::Errno;
use crate::queue_header::{Features, Header, LoopState};
use crate::region::Region;
use crate::request::Request;
use crate::state::State;
use crate::sync::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

mod abandon;
mod doorbell;
#[cfg(feature = "std")]
mod wait;

pub use abandon::OwnedTicket;
#[cfg(feature = "std")]
pub use wait::{Patience, Unanswered, WaitError};

// Words of the machine: not every one has 64-bit atomics.
const LOCK_WORDS: usize = MAX_SLOTS.div_ceil(usize::BITS) as usize;
const GROUPS: usize = (MAX_SLOTS / GROUP_SLOTS) as usize;

/// Names every [`DeviceQueue`] of the process, so that a reservation or a ticket fits the one that
/// gave it out. An address would not do: the next queue may get the same memory.
static NEXT_IDENTITY: Counter = Counter::new(0);

/// Every slot is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "all {slots} slots are in use; take or abandon what is out, or create the queue with more slots"
)]
pub struct QueueFull {
    /// Slots of the queue.
    pub slots: u32,
}

/// The one right to publish in a slot that is free.
///
/// Where it matters which slot a request gets, say because each has a buffer of its own, a lane
/// reserves first, fills the buffer, and publishes then. [`DeviceQueue::submit`] does both at once.
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
/// It is good for one request; the slot is the host's from then on:
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
/// A reservation that is dropped takes its slot out of use for the life of the [`DeviceQueue`]; one
/// that is not needed goes to [`DeviceQueue::unreserve`].
#[derive(Debug)]
#[must_use = "a dropped reservation loses its slot"]
pub struct Reservation {
    slot: u32,
    queue: usize,
}

impl Reservation {
    /// The slot that a request will be published in.
    pub const fn slot(&self) -> u32 {
        self.slot
    }
}

/// The one right to poll a slot that holds a request, and to give it back.
///
/// A ticket that is dropped takes its slot out of use for the life of the [`DeviceQueue`]. Give up a
/// request by [`DeviceQueue::abandon`] instead; an [`OwnedTicket`] does so when it is dropped.
#[derive(Debug)]
#[must_use = "a dropped ticket loses its slot; abandon it, or use an owned one"]
pub struct Ticket {
    slot: u32,
    queue: usize,
}

impl Ticket {
    /// The slot that holds the request.
    pub const fn slot(&self) -> u32 {
        self.slot
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an outcome may be an error"]
pub struct Outcome {
    /// The request's own tag.
    pub tag: u32,
    /// Bytes moved, or why it failed.
    pub result: Result<u32, Errno>,
}

impl Outcome {
    /// Bytes moved.
    ///
    /// # Errors
    /// The errno that the host answered with.
    pub const fn bytes(&self) -> Result<u32, Errno> {
        self.result
    }
}

/// The device's end of a queue, for threads of a host process: shared by all its lanes.
///
/// Slots are reserved by a bitmap in private memory, since no read-modify-write may cross the
/// boundary. So a queue has one `DeviceQueue`, however many lanes share it.
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
    /// Bits of locked slots whose outcomes nobody takes.
    abandoned: [AtomicUsize; LOCK_WORDS],
    /// Groups that the host was told to look at.
    in_use: [AtomicBool; GROUPS],
    /// What the doorbell word was given last.
    rings: AtomicU32,
}

impl DeviceQueue {
    /// Attaches to a queue that a host has created at the start of `region`.
    ///
    /// # Errors
    /// [`AttachError`]: the rule that the header breaks.
    pub fn attach(region: Region) -> Result<Self, AttachError> {
        let (geometry, features, id) = check_header(&region)?;
        Ok(Self::new(region, geometry, features, id, true))
    }

    /// Attaches to a bare queue (the layout of vyre 0.7) that fills `region`, and whose host writes
    /// STATUS alone. An [`Outcome`] then says whether the request succeeded, and no more: `Ok` carries
    /// the bytes asked for, of which fewer were moved at the end of a file or where an error came after
    /// some bytes, and every error is [`Errno::EIO`].
    ///
    /// # Errors
    /// [`AttachError::BareLength`] or [`AttachError::BadSlotCount`].
    pub fn attach_bare(region: Region) -> Result<Self, AttachError> {
        let geometry = Geometry::of_bare(&region)?;
        Ok(Self::new(region, geometry, Features::empty(), 0, false))
    }

    /// Attaches to a bare queue whose host stores bytes moved and errnos in COUNT: one attached by
    /// [`HostQueue::attach_bare_with_counts`](crate::HostQueue::attach_bare_with_counts). With any other
    /// host, the count of an outcome is that of the request, and an errno means nothing.
    ///
    /// # Errors
    /// [`AttachError::BareLength`] or [`AttachError::BadSlotCount`].
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
        // A device end that was here before has rung it this often.
        let rings = Header::of(&region, &geometry).doorbell();
        Self {
            region,
            geometry,
            features,
            counts,
            id,
            // Relaxed: only that the values differ matters.
            identity: NEXT_IDENTITY.fetch_add(1, Ordering::Relaxed),
            locks: core::array::from_fn(|_| AtomicUsize::new(0)),
            abandoned: core::array::from_fn(|_| AtomicUsize::new(0)),
            // The host looks at the first unasked.
            in_use: core::array::from_fn(|group| AtomicBool::new(group == 0)),
            rings: AtomicU32::new(rings),
        }
    }

    /// Where the slots are.
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Features that both sides know.
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Returns whether outcomes carry the bytes moved or an errno: see [`attach_bare`](Self::attach_bare).
    pub const fn carries_counts(&self) -> bool {
        self.counts
    }

    /// The name that the creator gave the queue.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// What the host says of itself; nothing for a bare queue.
    pub fn host_state(&self) -> Option<LoopState> {
        Header::of(&self.region, &self.geometry).state()
    }

    /// A counter that moves while the host lives; nothing for a bare queue.
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

    /// Looks at a request: its outcome, once there is one.
    ///
    /// Reads the status with acquire, which pairs with the release of
    /// [`HostQueue::complete`](crate::HostQueue::complete): once there is an outcome, the bytes
    /// that a READ moved are visible too.
    ///
    /// # Panics
    /// If the ticket is another queue's.
    #[inline]
    pub fn poll(&self, ticket: &Ticket) -> Option<Outcome> {
        self.assert_ours(ticket.queue);
        let words = self.region.words::<8>(self.geometry.slot_word(ticket.slot));
        let ok = match words.load(word::STATUS, Ordering::Acquire) {
            status::OK => true,
            status::ERROR => false,
            _ => return None,
        };
        let count = words.load(word::COUNT, Ordering::Relaxed);
        Some(Outcome {
            tag: words.load(word::TAG, Ordering::Relaxed),
            result: match (ok, self.counts) {
                (true, _) => Ok(count),
                (false, true) => Err(Errno::from_raw(count)),
                // COUNT is the request's. The cause is not told.
                (false, false) => Err(Errno::EIO),
            },
        })
    }

    /// Takes the outcome and gives the slot back for reuse. Nothing is stored in the slot: the next
    /// publication replaces the outcome, and each store less is a cache line that stays where it is.
    ///
    /// # Errors
    /// The ticket, if there is no outcome yet.
    ///
    /// # Panics
    /// If the ticket is another queue's.
    #[inline]
    pub fn take(&self, ticket: Ticket) -> Result<Outcome, Ticket> {
        let (outcome, Reservation { slot, .. }) = self.take_and_keep(ticket)?;
        self.unlock(slot);
        Ok(outcome)
    }

    /// As [`take`](Self::take), and the slot stays reserved: for the caller's next request, which
    /// needs no search, and no atomic operation, to find one.
    ///
    /// # Errors
    /// The ticket, if there is no outcome yet.
    ///
    /// # Panics
    /// If the ticket is another queue's.
    #[inline]
    pub fn take_and_keep(&self, ticket: Ticket) -> Result<(Outcome, Reservation), Ticket> {
        let Some(outcome) = self.poll(&ticket) else {
            return Err(ticket);
        };
        let Ticket { slot, queue } = ticket;
        Ok((outcome, Reservation { slot, queue }))
    }

    /// Reserves a slot: the lowest that is free, so that the slots in use lie close together. If there
    /// is none, takes back an [abandoned](Self::abandon) one whose outcome is there.
    ///
    /// # Errors
    /// [`QueueFull`] if there is none.
    pub fn reserve(&self) -> Result<Reservation, QueueFull> {
        let slots = self.geometry.slots();
        for (group, lock) in (0..slots.div_ceil(usize::BITS)).zip(&self.locks) {
            let first = group * usize::BITS;
            let absent = usize::MAX.checked_shl(slots - first).unwrap_or(0);
            let mut refused = absent;
            loop {
                let taken = lock.load(Ordering::Relaxed) | refused;
                let bit = taken.trailing_ones();
                if bit == usize::BITS {
                    break;
                }
                // Acquire, paired with the release in `unlock`: the outcome that the last user took
                // comes before what is published next.
                if lock.fetch_or(1 << bit, Ordering::Acquire) & 1 << bit != 0 {
                    continue;
                }
                if self.is_free(first + bit) {
                    self.mark_in_use(first + bit);
                    return Ok(Reservation {
                        slot: first + bit,
                        queue: self.identity,
                    });
                }
                self.unlock(first + bit);
                refused |= 1 << bit;
            }
        }
        self.reclaim().ok_or(QueueFull { slots })
    }

    /// Gives back a reserved slot in which nothing is to be published after all.
    ///
    /// # Panics
    /// If the reservation is another queue's.
    #[expect(clippy::needless_pass_by_value, reason = "a ticket is used up")]
    pub fn unreserve(&self, reservation: Reservation) {
        self.assert_ours(reservation.queue);
        self.unlock(reservation.slot);
    }

    /// Publishes a request in a reserved slot; the ticket is the right to its outcome. The status
    /// goes last, with release: it pairs with the acquire of
    /// [`HostQueue::claim_published`](crate::HostQueue::claim_published), and everything that the
    /// device wrote before, the bytes for a WRITE included, is the host's to see.
    ///
    /// In a bare queue, whose slots have no room for them, the buffer offset, flags and deadline
    /// are left out.
    ///
    /// # Panics
    /// If the reservation is another queue's.
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

    /// Whether a slot that was just locked can be used. Not so, if it still holds a request of an
    /// earlier device end of the same queue. An outcome is replaced by what is published next.
    #[inline]
    fn is_free(&self, slot: u32) -> bool {
        let words = self.region.words::<8>(self.geometry.slot_word(slot));
        !matches!(
            State::from_word(words.load(word::STATUS, Ordering::Acquire)),
            Some(State::Published | State::Claimed)
        )
    }

    /// Makes sure that the host looks at the group of a slot, before anything is published there.
    #[inline]
    fn mark_in_use(&self, slot: u32) {
        let group = slot / GROUP_SLOTS;
        let told = &self.in_use[group as usize];
        // Acquire, paired with the release below: the mark of another lane comes before what this
        // one publishes, so that a host which sees the one sees the other.
        if !told.load(Ordering::Acquire) {
            Header::of(&self.region, &self.geometry).mark_in_use(group);
            told.store(true, Ordering::Release);
        }
    }

    /// Release, paired with the acquire in `reserve`.
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
