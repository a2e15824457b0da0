//! The ABI as numbers: the layout of a queue, and Pod images of its header and slots.
//!
//! All words are 32-bit and little-endian, accessed whole, 4-byte aligned. `ABI.md` at the root
//! of the repository is the normative text.
//!
//! The tables in this file are the only list of the numbers. The C header, the CUDA header and the tables
//! of `ABI.md` are generated from them by `cargo xtask header`.
//!
//! An image is a private snapshot: it is filled word by word from shared memory and never aliases
//! it. The shared words themselves are only ever accessed as atomics.

use bytemuck::{Pod, Zeroable};

#[cfg(loom)]
mod small;
#[macro_use]
mod table;

pub use size::*;
#[cfg(loom)]
pub use small::{GROUP_SLOTS, HEADER_BYTES, MAX_BARE_SLOTS, MAX_SLOTS};
#[doc(hidden)]
pub use table::{Row, Table};

/// First eight bytes of a queue that has a header: `VYREIOQ` and a NUL.
pub const MAGIC: [u32; 2] = [u32::from_le_bytes(*b"VYRE"), u32::from_le_bytes(*b"IOQ\0")];

/// All tables, in the order of the headers.
#[doc(hidden)]
pub const TABLES: &[Table] = &[
    size::TABLE,
    word::TABLE,
    header_word::TABLE,
    op::TABLE,
    status::TABLE,
    flag::TABLE,
    feature::TABLE,
    loop_state::TABLE,
    errno::TABLE,
];

/// The rules of attaching: the name of the error, the layouts that it applies to, and the rule.
///
/// A rule of neither layout is one that the headers do not have.
#[doc(hidden)]
#[rustfmt::skip]
pub const ATTACH_RULES: &[[&str; 3]] = &[
    ["Misaligned", "both", "The first byte is aligned to HEADER_ALIGN; in the bare layout, to 4."],
    ["TooShort", "header", "The memory holds HEADER_BYTES, and reaches to the end of the last slot."],
    ["BadMagic", "header", "Words 0 and 1 are the magic."],
    ["MajorVersion", "header", "MAJOR is the version of the side that attaches."],
    ["BadStride", "header", "STRIDE is SLOT_BYTES."],
    ["BadSlotsOffset", "header", "SLOTS_OFFSET is a multiple of SLOT_BYTES, and at least HEADER_BYTES."],
    ["ReservedNotZero", "header", "Words 10 to 15 are zero."],
    ["BadSlotCount", "both", "There is at least one slot, and no more than the layout allows."],
    ["BareLength", "bare", "The length of the memory is a multiple of BARE_SLOT_BYTES."],
    ["OutOfMemory", "neither", "Local: memory for a new queue could not be allocated."],
];

table! {
    /// Sizes in bytes and slots, and versions.
    "Sizes", "", "value | name | meaning";
    mod size {
        /// Bytes of a slot in a queue with a header: one cache line.
        SLOT_BYTES: usize = 64;
        /// Bytes of a slot in the bare layout.
        BARE_SLOT_BYTES: usize = 32;
        /// Bytes of the header, which precede slot 0: one page.
        #[cfg(not(loom))]
        HEADER_BYTES: usize = 4096;
        /// Alignment of a queue with a header.
        HEADER_ALIGN: usize = 4096;
        /// Most slots of a queue with a header.
        #[cfg(not(loom))]
        MAX_SLOTS: u32 = 4096;
        /// Most slots of a bare queue.
        #[cfg(not(loom))]
        MAX_BARE_SLOTS: u32 = 64;
        /// Slots of a group. The host always sweeps group 0, and the others once they are in use.
        #[cfg(not(loom))]
        GROUP_SLOTS: u32 = 64;
        /// Version of everything that both sides must agree on: attaching requires an exact match.
        ABI_MAJOR: u32 = 1;
        /// Minor version: counts additions that either side may ignore.
        ABI_MINOR: u32 = 2;
    }
}

table! {
    /// Words of a slot, by number.
    "Slot words", "WORD_", "word | name | bare | meaning";
    pub mod word {
        /// Operation.
        OP: usize = 0, "yes";
        /// READ: file handle. WRITE: buffer handle.
        SOURCE: usize = 1, "yes";
        /// READ: buffer handle. WRITE, SYNC, PREFETCH, MAP: file handle.
        DESTINATION: usize = 2, "yes";
        /// Offset in the file handle's range in bytes, bits 0 to 31.
        FILE_OFFSET_LOW: usize = 3, "yes";
        /// Offset in the file handle's range in bytes, bits 32 to 63.
        FILE_OFFSET_HIGH: usize = 4, "yes";
        /// Published: bytes to transfer. OK: bytes transferred. ERROR: errno. The host of a bare queue
        /// without counts does not store it.
        COUNT: usize = 5, "yes";
        /// State of the slot.
        STATUS: usize = 6, "yes";
        /// The device's own; the host never stores it.
        TAG: usize = 7, "yes";
        /// Offset in the buffer handle's range in bytes, bits 0 to 31.
        BUFFER_OFFSET_LOW: usize = 8, "no";
        /// Offset in the buffer handle's range in bytes, bits 32 to 63.
        BUFFER_OFFSET_HIGH: usize = 9, "no";
        /// Flags.
        FLAGS: usize = 10, "no";
        /// Microseconds from the claim after which the request is cancelled; 0: never.
        DEADLINE: usize = 11, "no";
        /// Zero.
        RESERVED: usize = 12 to 15, "no";
    }
}

table! {
    /// Words of the header, by number. Each line of 16 words has one permanent writer.
    "Header words", "HEADER_WORD_", "word | name | line | writer | meaning";
    pub mod header_word {
        /// The bytes `VYREIOQ` and a zero byte.
        MAGIC: usize = 0 to 1, "0 | host, once";
        /// ABI_MAJOR.
        MAJOR: usize = 2, "0 | host, once";
        /// ABI_MINOR.
        MINOR: usize = 3, "0 | host, once";
        /// Bytes from one slot to the next: SLOT_BYTES.
        STRIDE: usize = 4, "0 | host, once";
        /// Number of slots.
        SLOTS: usize = 5, "0 | host, once";
        /// Bytes from the first byte of the header to that of slot 0.
        SLOTS_OFFSET: usize = 6, "0 | host, once";
        /// Features that the host offers.
        FEATURES: usize = 7, "0 | host, once";
        /// The creator's name for the queue, low word first.
        QUEUE_ID: usize = 8 to 9, "0 | host, once";
        /// State of the loop that serves the queue.
        STATE: usize = 16, "1 | host";
        /// A counter that changes while the host lives.
        HEARTBEAT: usize = 17, "1 | host";
        /// 1 while the host sleeps and wants its doorbell rung.
        ASLEEP: usize = 18, "1 | host";
        /// A counter of the times that the host woke the device.
        WAKEUPS: usize = 19, "1 | host";
        /// The doorbell: a counter of rings.
        DOORBELL: usize = 32, "2 | device";
        /// 0: no thread of the device sleeps. Else a number that changes whenever one is about to sleep until there is an
        /// outcome.
        ARMED: usize = 33, "2 | device";
        /// One word for each group of slots: 1 once a slot of the group was published. That of group 0 is
        /// never read.
        IN_USE: usize = 64 to 127, "4 to 7 | device";
        /// The first word after the lines in use; the rest of the header is zero.
        #[cfg(not(loom))]
        END: usize = 128, " | ";
    }
    use
    #[cfg(loom)]
    pub use super::small::END;
}

table! {
    /// Operations: word OP of a slot.
    "Operations", "OP_", "value | name | right to the file | right to the buffer | meaning";
    pub mod op {
        /// Reads from a file into a buffer, as pread(2).
        READ: u32 = 1, "READ | WRITE";
        /// Writes from a buffer into a file, as pwrite(2).
        WRITE: u32 = 2, "WRITE | READ";
        /// Completes when every request of this queue that was published before it, other than a FENCE,
        /// has completed.
        FENCE: u32 = 3, " | ";
        /// Completes when every earlier WRITE to the file is on stable storage: of this queue, those that
        /// have completed or are fenced; of any other, those that had completed.
        SYNC: u32 = 4, "SYNC | ";
        /// Starts read-ahead of COUNT bytes, and completes when all of it has been started.
        PREFETCH: u32 = 5, "READ | ";
        /// Lets the device load COUNT bytes of the file by itself, and completes when it can load all of them.
        MAP: u32 = 6, "READ | ";
    }
}

table! {
    /// States of a slot: word STATUS of a slot.
    "Status words", "STATUS_", "value | name | left by | meaning";
    pub mod status {
        /// Free. Zero, so that zeroed memory is an empty queue.
        EMPTY: u32 = 0, "device";
        /// Holds a request.
        PUBLISHED: u32 = 1, "host";
        /// Holds a request that the host is serving and has announced.
        CLAIMED: u32 = 2, "host";
        /// Succeeded; COUNT holds the bytes transferred, except in a bare queue without counts.
        OK: u32 = 0x10, "device";
        /// Failed; COUNT holds the errno, except in a bare queue without counts.
        ERROR: u32 = 0x11, "device";
    }
}

table! {
    /// Flags: word FLAGS of a slot.
    "Flags", "FLAG_", "value | name | operations | meaning";
    pub mod flag {
        /// The bytes are on stable storage when the request completes. Needs the SYNC right to the file,
        /// too.
        DURABLE: u32 = 1, "WRITE";
        /// A transfer of fewer bytes than requested is the error ENODATA, or the error that cut it short.
        EXACT: u32 = 2, "READ, WRITE";
    }
}

table! {
    /// Features: word FEATURES of the header.
    "Features", "FEATURE_", "value | name | meaning";
    pub mod feature {
        /// The host may sleep until the device rings.
        DOORBELL: u32 = 1;
        /// The host wakes a device that sleeps until there is an outcome.
        WAKE: u32 = 2;
    }
}

table! {
    /// States of the loop that serves a queue: word STATE of the header.
    "Loop states", "STATE_", "value | name | meaning";
    pub mod loop_state {
        /// The queue exists; nothing serves it yet.
        STARTING: u32 = 0;
        /// Requests are served.
        RUNNING: u32 = 1;
        /// Claimed requests are being finished; new requests complete with ECANCELED.
        DRAINING: u32 = 2;
        /// Nothing will be served any more: the host ended in order.
        STOPPED: u32 = 3;
        /// Nothing will be served any more: the host failed.
        FAILED: u32 = 4;
    }
}

table! {
    /// Errnos that the host itself stores in COUNT; any other comes from the kernel.
    "Errno", "ERRNO_", "value | name | meaning";
    pub mod errno {
        /// Input/output error.
        EIO: u32 = 5;
        /// Unknown or revoked handle.
        EBADF: u32 = 9;
        /// The handle lacks a right that the operation or a flag needs.
        EACCES: u32 = 13;
        /// Unknown operation, unknown flag, a flag that the operation does not take, a reserved word that
        /// is not zero, or misaligned for a direct-I/O file.
        EINVAL: u32 = 22;
        /// No space left on the file's device.
        ENOSPC: u32 = 28;
        /// Outside the byte range of a handle.
        ERANGE: u32 = 34;
        /// Fewer bytes than requested, with EXACT.
        ENODATA: u32 = 61;
        /// MAP: the device cannot load bytes of this file by itself.
        EOPNOTSUPP: u32 = 95;
        /// MAP: no more bytes may be kept in memory for devices.
        ENOBUFS: u32 = 105;
        /// The deadline passed.
        ETIMEDOUT: u32 = 110;
        /// The host was stopped, or it failed.
        ECANCELED: u32 = 125;
    }
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
