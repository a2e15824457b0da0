//! The error of memory or a layout that cannot be a queue.

use crate::abi;

/// A rule of the ABI that memory or a layout breaks, so that it cannot be a queue.
///
/// There is one variant for each rule of `ABI.md`, section 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The base address is not aligned enough.
    #[error("queue memory at {address:#x} must be aligned to {align} bytes")]
    Misaligned {
        /// Base address.
        address: usize,
        /// Required alignment in bytes.
        align: usize,
    },
    /// The region ends before the queue does.
    #[error("the queue needs {need} bytes and the region has {have}; map all of it")]
    TooShort {
        /// Bytes that the layout takes.
        need: usize,
        /// Bytes in the region.
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
    /// The other side uses another major version of the ABI.
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
    /// The queue has no slots, or more than the layout allows.
    #[error("{slots} slots; a queue of this layout has 1 to {most}")]
    BadSlotCount {
        /// Slots requested or found.
        slots: u64,
        /// Limit of the layout.
        most: u32,
    },
    /// The slots begin inside the header or between two cache lines.
    #[error(
        "slots at byte {offset} of the queue; they begin at a multiple of {} that is at least {}",
        abi::SLOT_BYTES,
        abi::HEADER_BYTES
    )]
    BadSlotsOffset {
        /// Offset in the header, in bytes.
        offset: u32,
    },
    /// A reserved word among the constants of the header is not zero.
    #[error("reserved header word {word} is {value:#x}, not zero")]
    ReservedNotZero {
        /// Number of the word.
        word: usize,
        /// Value of the word.
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
    /// The allocator has no memory for the queue.
    #[error("no memory for a queue of {bytes} bytes")]
    OutOfMemory {
        /// Bytes requested.
        bytes: usize,
    },
}
