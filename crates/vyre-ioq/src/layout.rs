//! The layout of a queue: where its slots are, and which optional features it offers.

use crate::abi;
use crate::error::AttachError;
use crate::region::Region;

bitflags::bitflags! {
    /// Optional parts of the protocol. The host offers features; both ends use those that both know.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Features: u32 {
        /// Lets the host sleep until the doorbell word changes. See `ABI.md`, section 7.
        const DOORBELL = abi::feature::DOORBELL;
        /// Lets threads of the device sleep until there is an outcome. See `ABI.md`, section 7.
        const WAKE = abi::feature::WAKE;
    }
}

/// Describes the layout of a queue that is to be created.
///
/// ```
/// use vyre_ioq::QueueLayout;
///
/// assert_eq!(QueueLayout::with_slots(64).bytes(), 4096 + 64 * 64);
/// assert_eq!(QueueLayout::bare(64).bytes(), 64 * 32);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLayout {
    slots: u32,
    bare: bool,
    counts: bool,
    id: u64,
    features: Features,
}

impl QueueLayout {
    /// Describes a queue with a header and `slots` slots of 64 bytes: 1 to [`abi::MAX_SLOTS`].
    pub const fn with_slots(slots: u32) -> Self {
        Self {
            slots,
            bare: false,
            counts: true,
            id: 0,
            features: Features::empty(),
        }
    }

    /// Describes a queue of vyre 0.7: no header, and `slots` slots of 32 bytes, 1 to
    /// [`abi::MAX_BARE_SLOTS`].
    ///
    /// Requests carry no buffer offset, flags or deadline. The device cannot see whether the host is
    /// alive. An outcome is OK or ERROR and nothing more, unless [`with_counts`](Self::with_counts)
    /// is called.
    pub const fn bare(slots: u32) -> Self {
        Self {
            slots,
            bare: true,
            counts: false,
            id: 0,
            features: Features::empty(),
        }
    }

    /// Makes the host of a bare queue store bytes moved and errnos in COUNT, as in a queue with a
    /// header.
    ///
    /// Both ends must agree on it. Do not give such a queue to a device of vyre 0.7: that device publishes
    /// again by STATUS alone, and would then ask for the count that COUNT holds. A queue with a header
    /// always carries counts.
    #[must_use]
    pub const fn with_counts(mut self) -> Self {
        self.counts = true;
        self
    }

    /// Sets the identifier that the creator gives the queue, for logs. The header stores it.
    #[must_use]
    pub const fn with_id(mut self, id: u64) -> Self {
        self.id = id;
        self
    }

    /// Sets the features that the queue offers. The default is none.
    ///
    /// A bare queue has no header to offer features in, so this does nothing there.
    #[must_use]
    pub const fn with_features(mut self, features: Features) -> Self {
        if !self.bare {
            self.features = features;
        }
        self
    }

    /// Returns whether this is the bare layout of vyre 0.7.
    pub const fn is_bare(&self) -> bool {
        self.bare
    }

    /// Returns the size of the queue in bytes.
    pub const fn bytes(&self) -> usize {
        self.geometry().bytes()
    }

    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    pub(crate) const fn features(&self) -> Features {
        self.features
    }

    pub(crate) const fn counts(&self) -> bool {
        self.counts
    }

    pub(crate) const fn geometry(&self) -> Geometry {
        if self.bare {
            Geometry::bare(self.slots)
        } else {
            Geometry::after_header(self.slots, abi::HEADER_BYTES)
        }
    }

    pub(crate) fn check(&self) -> Result<Geometry, AttachError> {
        self.geometry().check_slots()
    }
}

/// Location of the slots of a queue.
///
/// It is read from the header once, when an end attaches. What a device stores in the header later
/// changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    slots: u32,
    /// First word of slot 0.
    first: usize,
    /// Words of a slot, as a power of two, so that the sweep need not divide.
    slot_shift: u8,
}

const SLOT_SHIFT: u8 = (abi::SLOT_BYTES / size_of::<u32>()).ilog2() as u8;
const BARE_SLOT_SHIFT: u8 = (abi::BARE_SLOT_BYTES / size_of::<u32>()).ilog2() as u8;
const _: () = assert!(size_of::<u32>() << SLOT_SHIFT == abi::SLOT_BYTES);
const _: () = assert!(size_of::<u32>() << BARE_SLOT_SHIFT == abi::BARE_SLOT_BYTES);

impl Geometry {
    /// Returns the number of slots.
    #[inline]
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// Returns whether this is the bare layout of vyre 0.7.
    #[inline]
    pub const fn is_bare(&self) -> bool {
        self.slot_shift == BARE_SLOT_SHIFT
    }

    /// Returns the bytes from one slot to the next.
    #[inline]
    pub const fn stride(&self) -> usize {
        size_of::<u32>() << self.slot_shift
    }

    /// Returns the bytes from the start of the region to slot 0.
    #[inline]
    pub const fn slots_offset(&self) -> usize {
        self.first * size_of::<u32>()
    }

    /// Returns the bytes from the start of the region to the end of the last slot.
    pub const fn bytes(&self) -> usize {
        // Saturating: these numbers may come from a header that is not checked yet.
        (self.first * size_of::<u32>())
            .saturating_add((self.slots as usize).saturating_mul(self.stride()))
    }

    /// Returns the first word of a slot. `slot` must be below [`slots`](Self::slots).
    #[inline]
    pub(crate) const fn slot_word(&self, slot: u32) -> usize {
        self.first + ((slot as usize) << self.slot_shift)
    }

    /// Returns the groups of slots that the queue has, one bit for each. Without slots, these are group 0, of which a
    /// sweep finds nothing.
    pub(crate) const fn groups(&self) -> u64 {
        let groups = self.slots.div_ceil(abi::GROUP_SLOTS);
        u64::MAX >> (u64::BITS - groups - (groups == 0) as u32)
    }

    const fn most(&self) -> u32 {
        if self.is_bare() {
            abi::MAX_BARE_SLOTS
        } else {
            abi::MAX_SLOTS
        }
    }

    /// Returns the geometry of a queue whose slots follow a header.
    pub(crate) const fn after_header(slots: u32, slots_offset: usize) -> Self {
        Self {
            slots,
            first: slots_offset / size_of::<u32>(),
            slot_shift: SLOT_SHIFT,
        }
    }

    /// Returns the geometry of a bare queue.
    pub(crate) const fn bare(slots: u32) -> Self {
        Self {
            slots,
            first: 0,
            slot_shift: BARE_SLOT_SHIFT,
        }
    }

    pub(crate) fn check_slots(self) -> Result<Self, AttachError> {
        if self.slots == 0 || self.slots > self.most() {
            return Err(AttachError::BadSlotCount {
                slots: u64::from(self.slots),
                most: self.most(),
            });
        }
        Ok(self)
    }

    /// Checks that `region` can hold the queue.
    pub(crate) fn check_region(self, region: &Region) -> Result<Self, AttachError> {
        self.check_memory(region.as_ptr().addr(), region.len())
    }

    pub(crate) fn check_memory(self, address: usize, len: usize) -> Result<Self, AttachError> {
        if !self.is_bare() && !address.is_multiple_of(abi::HEADER_ALIGN) {
            return Err(AttachError::Misaligned {
                address,
                align: abi::HEADER_ALIGN,
            });
        }
        if len < self.bytes() {
            return Err(AttachError::TooShort {
                need: self.bytes(),
                have: len,
            });
        }
        Ok(self)
    }

    /// Returns the geometry of a bare queue that fills `region`.
    pub(crate) fn of_bare(region: &Region) -> Result<Self, AttachError> {
        Self::of_bare_bytes(region.len())
    }

    pub(crate) fn of_bare_bytes(len: usize) -> Result<Self, AttachError> {
        if !len.is_multiple_of(abi::BARE_SLOT_BYTES) {
            return Err(AttachError::BareLength { len });
        }
        let slots = (len / abi::BARE_SLOT_BYTES) as u64;
        let most = abi::MAX_BARE_SLOTS;
        match u32::try_from(slots) {
            Ok(slots @ 1..=abi::MAX_BARE_SLOTS) => Ok(Self::bare(slots)),
            _ => Err(AttachError::BadSlotCount { slots, most }),
        }
    }
}
