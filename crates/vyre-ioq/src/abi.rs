//! The bytes: word numbers, constants and Pod images of the header and of a slot.
//!
//! All words are 32-bit and little-endian, accessed whole, 4-byte aligned. `ABI.md` at the root
//! of the repository is the normative text; the assertions in this file tie it to the sources.
//!
//! An image is a private snapshot: it is filled word by word from shared memory and never aliases
//! it. The shared words themselves are only ever touched as atomics.

use bytemuck::{Pod, Zeroable};

#[cfg(loom)]
mod small;
#[cfg(loom)]
pub use small::{GROUP_SLOTS, HEADER_BYTES, MAX_BARE_SLOTS, MAX_SLOTS};

/// Bytes of a slot in a queue that has a header: one cache line.
pub const SLOT_BYTES: usize = 64;
/// Bytes of a slot in the bare layout of the vyre 0.7 queue.
pub const BARE_SLOT_BYTES: usize = 32;
/// Bytes before the first slot of a queue that has a header: one page.
#[cfg(not(loom))]
pub const HEADER_BYTES: usize = 4096;
/// Alignment that a queue with a header requires of its memory.
pub const HEADER_ALIGN: usize = 4096;
/// Most slots of a queue that has a header.
#[cfg(not(loom))]
pub const MAX_SLOTS: u32 = 4096;
/// Most slots of a bare queue.
#[cfg(not(loom))]
pub const MAX_BARE_SLOTS: u32 = 64;

/// Slots of a group. The host looks at group 0 always, and at the others once they are in use.
#[cfg(not(loom))]
pub const GROUP_SLOTS: u32 = 64;

/// First eight bytes of a queue that has a header: `VYREIOQ` and a NUL.
pub const MAGIC: [u32; 2] = [u32::from_le_bytes(*b"VYRE"), u32::from_le_bytes(*b"IOQ\0")];
/// Version of everything that both sides must agree on. Attach requires an exact match.
pub const ABI_MAJOR: u32 = 1;
/// Version of what one side may ignore.
pub const ABI_MINOR: u32 = 0;

/// Words of a slot, by number.
pub mod word {
    /// Operation: see [`op`](super::op).
    pub const OP: usize = 0;
    /// READ: file handle. WRITE: buffer handle.
    pub const SOURCE: usize = 1;
    /// READ: buffer handle. WRITE, SYNC, PREFETCH: file handle.
    pub const DESTINATION: usize = 2;
    /// File offset in bytes, bits 0 to 31.
    pub const FILE_OFFSET_LOW: usize = 3;
    /// File offset in bytes, bits 32 to 63.
    pub const FILE_OFFSET_HIGH: usize = 4;
    /// Device: bytes asked for. Host: bytes moved (OK) or errno (ERROR).
    pub const COUNT: usize = 5;
    /// State of the slot: see [`status`](super::status).
    pub const STATUS: usize = 6;
    /// The device's own; the host never writes it.
    pub const TAG: usize = 7;
    /// Buffer offset in bytes, bits 0 to 31.
    pub const BUFFER_OFFSET_LOW: usize = 8;
    /// Buffer offset in bytes, bits 32 to 63.
    pub const BUFFER_OFFSET_HIGH: usize = 9;
    /// See [`Flags`](crate::Flags).
    pub const FLAGS: usize = 10;
    /// Microseconds from the claim after which the request is cancelled; 0 is never.
    pub const DEADLINE: usize = 11;
    /// First of four words that must be zero.
    pub const RESERVED: usize = 12;
}

/// Words of the header, by number. Each line of 16 words has one writer for ever.
pub mod header_word {
    /// Line 0, host, constant once shared: [`MAGIC`](super::MAGIC), two words.
    pub const MAGIC: usize = 0;
    /// Line 0: [`ABI_MAJOR`](super::ABI_MAJOR).
    pub const MAJOR: usize = 2;
    /// Line 0: [`ABI_MINOR`](super::ABI_MINOR).
    pub const MINOR: usize = 3;
    /// Line 0: bytes from one slot to the next.
    pub const STRIDE: usize = 4;
    /// Line 0: number of slots.
    pub const SLOTS: usize = 5;
    /// Line 0: bytes from the start of the header to slot 0.
    pub const SLOTS_OFFSET: usize = 6;
    /// Line 0: feature bits that the host offers.
    pub const FEATURES: usize = 7;
    /// Line 0: the creator's own name for the queue, two words.
    pub const QUEUE_ID: usize = 8;
    /// Line 1, host: [`LoopState`](crate::LoopState).
    pub const STATE: usize = 16;
    /// Line 1, host: a counter that moves while the host lives.
    pub const HEARTBEAT: usize = 17;
    /// Line 1, host: 1 while the host sleeps and wants its doorbell rung.
    pub const ASLEEP: usize = 18;
    /// Line 2, device: the doorbell, a counter of rings.
    pub const DOORBELL: usize = 32;
    /// Lines 4 to 7, device: a word for each group of [`GROUP_SLOTS`](super::GROUP_SLOTS) slots, 1
    /// once a slot of the group was ever published. That of group 0 is never looked at.
    pub const IN_USE: usize = 64;
    /// Words in use; the rest of the header page is zero.
    #[cfg(not(loom))]
    pub const END: usize = 128;
    #[cfg(loom)]
    pub use super::small::END;
}

/// Operation codes: word 0 of a slot.
pub mod op {
    /// File to buffer.
    pub const READ: u32 = 1;
    /// Buffer to file.
    pub const WRITE: u32 = 2;
    /// Completes after everything that was published before it, other fences aside.
    pub const FENCE: u32 = 3;
    /// Makes earlier writes to a file durable.
    pub const SYNC: u32 = 4;
    /// Starts read-ahead.
    pub const PREFETCH: u32 = 5;
}

/// Status codes: word 6 of a slot.
pub mod status {
    /// Free; the device's to publish. Zero, so that zeroed memory is an empty queue.
    pub const EMPTY: u32 = 0;
    /// A request; the host's to claim.
    pub const PUBLISHED: u32 = 1;
    /// Being served; the host's to complete.
    pub const CLAIMED: u32 = 2;
    /// Served: word 5 holds the bytes moved. The device's to publish over, or to recycle.
    pub const OK: u32 = 0x10;
    /// Failed: word 5 holds the errno. The device's to publish over, or to recycle.
    pub const ERROR: u32 = 0x11;
}

/// A private copy of one 64-byte slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct SlotImage {
    /// Word 0.
    pub op: u32,
    /// Word 1.
    pub source: u32,
    /// Word 2.
    pub destination: u32,
    /// Word 3.
    pub file_offset_low: u32,
    /// Word 4.
    pub file_offset_high: u32,
    /// Word 5.
    pub count: u32,
    /// Word 6.
    pub status: u32,
    /// Word 7.
    pub tag: u32,
    /// Word 8.
    pub buffer_offset_low: u32,
    /// Word 9.
    pub buffer_offset_high: u32,
    /// Word 10.
    pub flags: u32,
    /// Word 11.
    pub deadline: u32,
    /// Words 12 to 15.
    pub reserved: [u32; 4],
}

/// A private copy of the constants in line 0 of the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct HeaderImage {
    /// Words 0 and 1.
    pub magic: [u32; 2],
    /// Word 2.
    pub major: u32,
    /// Word 3.
    pub minor: u32,
    /// Word 4.
    pub stride: u32,
    /// Word 5.
    pub slots: u32,
    /// Word 6.
    pub slots_offset: u32,
    /// Word 7.
    pub features: u32,
    /// Words 8 and 9.
    pub queue_id: [u32; 2],
    /// Words 10 to 15; zero.
    pub reserved: [u32; 6],
}

/// Byte offset of a word.
const fn at(word: usize) -> usize {
    word * size_of::<u32>()
}

macro_rules! words_at {
    ($image:ty: $($field:ident = $word:expr),+ $(,)?) => {
        $(const _: () = assert!(core::mem::offset_of!($image, $field) == at($word));)+
    };
}

const _: () = assert!(size_of::<SlotImage>() == SLOT_BYTES && align_of::<SlotImage>() == 4);
const _: () = assert!(size_of::<HeaderImage>() == 64 && align_of::<HeaderImage>() == 4);
const _: () = assert!(BARE_SLOT_BYTES == at(word::BUFFER_OFFSET_LOW));
const _: () = assert!(at(header_word::END) <= HEADER_BYTES);
// Words 4 to 7 are one aligned 16-byte unit, stored and polled whole by a GPU.
const _: () = assert!(at(word::FILE_OFFSET_HIGH).is_multiple_of(16));
// One writer a line.
const _: () = assert!(at(header_word::STATE) == 64 && at(header_word::DOORBELL) == 128);
const _: () = assert!(at(header_word::IN_USE) == 256);
const _: () = assert!(header_word::END - header_word::IN_USE == (MAX_SLOTS / GROUP_SLOTS) as usize);
// A queue without words for its groups has one group, which needs none.
const _: () = assert!(MAX_BARE_SLOTS == GROUP_SLOTS);

words_at!(SlotImage:
    op = word::OP,
    source = word::SOURCE,
    destination = word::DESTINATION,
    file_offset_low = word::FILE_OFFSET_LOW,
    file_offset_high = word::FILE_OFFSET_HIGH,
    count = word::COUNT,
    status = word::STATUS,
    tag = word::TAG,
    buffer_offset_low = word::BUFFER_OFFSET_LOW,
    buffer_offset_high = word::BUFFER_OFFSET_HIGH,
    flags = word::FLAGS,
    deadline = word::DEADLINE,
    reserved = word::RESERVED,
);
words_at!(HeaderImage:
    magic = header_word::MAGIC,
    major = header_word::MAJOR,
    minor = header_word::MINOR,
    stride = header_word::STRIDE,
    slots = header_word::SLOTS,
    slots_offset = header_word::SLOTS_OFFSET,
    features = header_word::FEATURES,
    queue_id = header_word::QUEUE_ID,
    reserved = 10,
);
