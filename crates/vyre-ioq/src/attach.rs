//! Geometry of a queue, and the rules by which memory is accepted as one.

use crate::abi::{self, HeaderImage, header_word};
use crate::queue_header::Features;
use crate::region::Region;
use crate::sync::Ordering;

/// Why memory cannot be a queue. One variant for each rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The base address is not aligned enough.
    #[error("queue memory at {address:#x} must be aligned to {align} bytes")]
    Misaligned {
        /// Where it is.
        address: usize,
        /// What it must be a multiple of.
        align: usize,
    },
    /// The region ends before the queue does.
    #[error("the queue needs {need} bytes and the region has {have}; map all of it")]
    TooShort {
        /// Bytes that the layout takes.
        need: usize,
        /// Bytes that there are.
        have: usize,
    },
    /// The memory does not begin with the magic number.
    #[error(
        "no queue header here (found {found:08x?}); create the queue first, or attach it as bare \
         if it has the vyre 0.7 layout"
    )]
    BadMagic {
        /// Words 0 and 1 as found.
        found: [u32; 2],
    },
    /// The other side speaks another version.
    #[error("the queue has ABI version {theirs} and this crate speaks {ours}; rebuild one side")]
    MajorVersion {
        /// Version in the header.
        theirs: u32,
        /// [`abi::ABI_MAJOR`].
        ours: u32,
    },
    /// The slots are not 64 bytes apart.
    #[error("slot stride {stride} is not {}", abi::SLOT_BYTES)]
    BadStride {
        /// Stride in the header, in bytes.
        stride: u32,
    },
    /// No slots, or more than the layout allows.
    #[error("{slots} slots; a queue of this layout has 1 to {most}")]
    BadSlotCount {
        /// Slots asked for or found.
        slots: u64,
        /// The layout's limit.
        most: u32,
    },
    /// The slots begin inside the header or between two lines.
    #[error(
        "slots at byte {offset} of the queue; they begin at a multiple of {} that is at least {}",
        abi::SLOT_BYTES,
        abi::HEADER_BYTES
    )]
    BadSlotsOffset {
        /// Offset in the header, in bytes.
        offset: u32,
    },
    /// A word of the header's constants that must be zero is not.
    #[error("reserved header word {word} is {value:#x}, not zero")]
    ReservedNotZero {
        /// Number of the word.
        word: usize,
        /// What it holds.
        value: u32,
    },
    /// The length of a bare queue is not a whole number of slots.
    #[error(
        "a bare queue of {len} bytes is not a multiple of {}",
        abi::BARE_SLOT_BYTES
    )]
    BareLength {
        /// Length of the region, in bytes.
        len: usize,
    },
    /// The allocator refused.
    #[error("no memory for a queue of {bytes} bytes")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
    },
}

/// What a queue to be created should look like.
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
    /// A queue with a header and `slots` slots of 64 bytes, 1 to [`abi::MAX_SLOTS`].
    pub const fn with_slots(slots: u32) -> Self {
        Self {
            slots,
            bare: false,
            counts: true,
            id: 0,
            features: Features::empty(),
        }
    }

    /// The layout of the vyre 0.7 queue: no header, `slots` slots of 32 bytes, 1 to
    /// [`abi::MAX_BARE_SLOTS`]. Requests carry no buffer offset, flags or deadline, and a device
    /// cannot see whether the host lives. Outcomes are OK or ERROR and nothing more, as in vyre 0.7:
    /// see [`with_counts`](Self::with_counts).
    pub const fn bare(slots: u32) -> Self {
        Self {
            slots,
            bare: true,
            counts: false,
            id: 0,
            features: Features::empty(),
        }
    }

    /// Makes the host of a bare queue store bytes moved and errnos in COUNT, as with a header. Both ends
    /// must agree on it. A device of vyre 0.7 must not be given such a queue: it publishes again by STATUS
    /// alone, and would then ask for the count that COUNT holds. A queue with a header always carries
    /// counts.
    #[must_use]
    pub const fn with_counts(mut self) -> Self {
        self.counts = true;
        self
    }

    /// Gives the queue a name of the creator's choice, for logs. Kept in the header.
    #[must_use]
    pub const fn with_id(mut self, id: u64) -> Self {
        self.id = id;
        self
    }

    /// Offers optional parts of the protocol: none, unless this is called. A bare queue has no header
    /// to offer them in, and offers none whatever is asked for here.
    #[must_use]
    pub const fn with_features(mut self, features: Features) -> Self {
        if !self.bare {
            self.features = features;
        }
        self
    }

    /// Returns whether this is the bare layout of the vyre 0.7 queue.
    pub const fn is_bare(&self) -> bool {
        self.bare
    }

    /// Bytes that the queue takes.
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
        Geometry {
            slots: self.slots,
            first: if self.bare {
                0
            } else {
                abi::HEADER_BYTES / size_of::<u32>()
            },
            slot_shift: if self.bare {
                BARE_SLOT_SHIFT
            } else {
                SLOT_SHIFT
            },
        }
    }

    pub(crate) fn check(&self) -> Result<Geometry, AttachError> {
        self.geometry().check_slots()
    }
}

/// Where the slots of a queue are. Read from the header once, at attach; what a device stores in
/// the header later changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    slots: u32,
    /// First word of slot 0.
    first: usize,
    /// Words of a slot, as a power of two: the sweep has no time to choose or to divide.
    slot_shift: u8,
}

const SLOT_SHIFT: u8 = (abi::SLOT_BYTES / size_of::<u32>()).ilog2() as u8;
const BARE_SLOT_SHIFT: u8 = (abi::BARE_SLOT_BYTES / size_of::<u32>()).ilog2() as u8;
const _: () = assert!(size_of::<u32>() << SLOT_SHIFT == abi::SLOT_BYTES);
const _: () = assert!(size_of::<u32>() << BARE_SLOT_SHIFT == abi::BARE_SLOT_BYTES);

impl Geometry {
    /// Number of slots.
    #[inline]
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// Whether this is the bare layout of the vyre 0.7 queue.
    #[inline]
    pub const fn is_bare(&self) -> bool {
        self.slot_shift == BARE_SLOT_SHIFT
    }

    /// Bytes from one slot to the next.
    #[inline]
    pub const fn stride(&self) -> usize {
        size_of::<u32>() << self.slot_shift
    }

    /// Bytes from the start of the region to slot 0.
    #[inline]
    pub const fn slots_offset(&self) -> usize {
        self.first * size_of::<u32>()
    }

    /// Bytes from the start of the region to the end of the last slot.
    pub const fn bytes(&self) -> usize {
        // Saturating: before the checks, the numbers may be anybody's.
        (self.first * size_of::<u32>())
            .saturating_add((self.slots as usize).saturating_mul(self.stride()))
    }

    /// First word of a slot. `slot` must be below [`slots`](Self::slots).
    #[inline]
    pub(crate) const fn slot_word(&self, slot: u32) -> usize {
        self.first + ((slot as usize) << self.slot_shift)
    }

    /// Groups of slots that the queue has, a bit for each.
    pub(crate) const fn groups(&self) -> u64 {
        u64::MAX >> (u64::BITS - self.slots.div_ceil(abi::GROUP_SLOTS))
    }

    const fn most(&self) -> u32 {
        if self.is_bare() {
            abi::MAX_BARE_SLOTS
        } else {
            abi::MAX_SLOTS
        }
    }

    fn check_slots(self) -> Result<Self, AttachError> {
        if self.slots == 0 || self.slots > self.most() {
            return Err(AttachError::BadSlotCount {
                slots: u64::from(self.slots),
                most: self.most(),
            });
        }
        Ok(self)
    }

    /// Checks that the region can hold the queue.
    pub(crate) fn check_region(self, region: &Region) -> Result<Self, AttachError> {
        self.check_memory(region.as_ptr().addr(), region.len())
    }

    fn check_memory(self, address: usize, len: usize) -> Result<Self, AttachError> {
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

    /// The geometry of a bare queue that fills its region.
    pub(crate) fn of_bare(region: &Region) -> Result<Self, AttachError> {
        Self::of_bare_bytes(region.len())
    }

    fn of_bare_bytes(len: usize) -> Result<Self, AttachError> {
        if !len.is_multiple_of(abi::BARE_SLOT_BYTES) {
            return Err(AttachError::BareLength { len });
        }
        let slots = (len / abi::BARE_SLOT_BYTES) as u64;
        let most = abi::MAX_BARE_SLOTS;
        match u32::try_from(slots) {
            Ok(slots @ 1..=abi::MAX_BARE_SLOTS) => Ok(Self {
                slots,
                first: 0,
                slot_shift: BARE_SLOT_SHIFT,
            }),
            _ => Err(AttachError::BadSlotCount { slots, most }),
        }
    }
}

/// Reads line 0 of the header, once, into a private image. The magic comes first, with acquire: it
/// pairs with the release in [`initialise`](crate::queue_header::initialise), so that whoever sees the
/// magic sees the rest, and whoever does not has no use for it.
fn read_header(region: &Region) -> Result<HeaderImage, AttachError> {
    if region.len() < abi::HEADER_BYTES {
        return Err(AttachError::TooShort {
            need: abi::HEADER_BYTES,
            have: region.len(),
        });
    }
    let line = region.words::<16>(0);
    let magic = line.load(header_word::MAGIC, Ordering::Acquire);
    if magic != abi::MAGIC[0] {
        let second = line.load(header_word::MAGIC + 1, Ordering::Relaxed);
        return Err(AttachError::BadMagic {
            found: [magic, second],
        });
    }
    let mut words = [magic; 16];
    for (word, copy) in words.iter_mut().enumerate().skip(1) {
        *copy = line.load(word, Ordering::Relaxed);
    }
    Ok(bytemuck::cast(words))
}

/// Checks a header against every rule.
pub(crate) fn check_header(region: &Region) -> Result<(Geometry, Features, u64), AttachError> {
    let address = region.as_ptr().addr();
    if !address.is_multiple_of(abi::HEADER_ALIGN) {
        return Err(AttachError::Misaligned {
            address,
            align: abi::HEADER_ALIGN,
        });
    }
    let image = read_header(region)?;
    let (geometry, features) = check_image(&image, address, region.len())?;
    let id = u64::from(image.queue_id[0]) | u64::from(image.queue_id[1]) << 32;
    Ok((geometry, features, id))
}

/// Checks a private copy of the header against the rules, and against the memory it is to describe.
fn check_image(
    image: &HeaderImage,
    address: usize,
    len: usize,
) -> Result<(Geometry, Features), AttachError> {
    if image.magic != abi::MAGIC {
        return Err(AttachError::BadMagic { found: image.magic });
    }
    if image.major != abi::ABI_MAJOR {
        return Err(AttachError::MajorVersion {
            theirs: image.major,
            ours: abi::ABI_MAJOR,
        });
    }
    if image.stride as usize != abi::SLOT_BYTES {
        return Err(AttachError::BadStride {
            stride: image.stride,
        });
    }
    let offset = image.slots_offset;
    if !(offset as usize).is_multiple_of(abi::SLOT_BYTES) || (offset as usize) < abi::HEADER_BYTES {
        return Err(AttachError::BadSlotsOffset { offset });
    }
    if let Some(word) = image.reserved.iter().position(|&word| word != 0) {
        return Err(AttachError::ReservedNotZero {
            word: header_word::QUEUE_ID + 2 + word,
            value: image.reserved[word],
        });
    }
    let geometry = Geometry {
        slots: image.slots,
        first: offset as usize / size_of::<u32>(),
        slot_shift: SLOT_SHIFT,
    }
    .check_slots()?
    .check_memory(address, len)?;
    Ok((geometry, Features::from_bits_truncate(image.features)))
}

#[cfg(kani)]
mod proofs;
