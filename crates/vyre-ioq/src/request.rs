//! Requests: the device builds and encodes them, the host decodes and checks them.

use core::fmt;

use crate::abi::{SlotImage, flag, op};
use crate::errno::Errno;

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// The host gives handles out, and only the host can resolve them. A handle grants nothing by
        /// itself: on every request, the host checks the handle, its rights and its byte range.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u32);

        impl $name {
            /// Returns the handle that a word of a slot holds.
            pub const fn from_raw(raw: u32) -> Self {
                Self(raw)
            }

            /// Returns the word that goes into a slot.
            pub const fn raw(self) -> u32 {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
    };
}

handle! {
    /// Handle of a file and of a byte range in it.
    FileHandle
}
handle! {
    /// Handle of a buffer and of a byte range in it.
    BufferHandle
}

bitflags::bitflags! {
    /// Flags of a request: word 10. A request with a flag that its operation does not take fails with EINVAL.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Flags: u32 {
        /// WRITE: the bytes are on stable storage when the request completes.
        const DURABLE = flag::DURABLE;
        /// READ, WRITE: if fewer bytes are moved than requested, the request fails with the error that cut
        /// the transfer short, or with ENODATA if there is none.
        const EXACT = flag::EXACT;
    }
}

/// Operation of a request: word 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u32)]
pub enum Op {
    /// Reads from a file into a buffer, as pread(2).
    Read = op::READ,
    /// Writes from a buffer to a file, as pwrite(2).
    Write = op::WRITE,
    /// Completes when every request that was published before it has completed, other fences aside.
    Fence = op::FENCE,
    /// Completes when earlier writes to a file are on stable storage. For writes of the same queue,
    /// "earlier" means completed or fenced; for writes of any other queue, completed.
    Sync = op::SYNC,
    /// Starts read-ahead. Completes when all of the read-ahead has been started, without waiting for the
    /// bytes.
    Prefetch = op::PREFETCH,
    /// Lets the device load bytes of a file by itself. Completes when it can load all of them.
    Map = op::MAP,
}

impl Op {
    /// Returns the operation that word 0 names, or `None` if it names none.
    #[inline]
    pub const fn from_word(word: u32) -> Option<Self> {
        Some(match word {
            op::READ => Self::Read,
            op::WRITE => Self::Write,
            op::FENCE => Self::Fence,
            op::SYNC => Self::Sync,
            op::PREFETCH => Self::Prefetch,
            op::MAP => Self::Map,
            _ => return None,
        })
    }

    /// Returns the word 0 of this operation.
    #[inline]
    pub const fn word(self) -> u32 {
        self as u32
    }

    /// Returns the flags that this operation takes.
    #[inline]
    pub const fn flags(self) -> Flags {
        match self {
            Self::Read => Flags::EXACT,
            Self::Write => Flags::DURABLE.union(Flags::EXACT),
            Self::Fence | Self::Sync | Self::Prefetch | Self::Map => Flags::empty(),
        }
    }

    /// Returns whether the operation is a barrier, which waits for earlier requests of its queue. The host
    /// sweeps every slot once more before it admits a barrier, so that it finds all earlier publications.
    #[inline]
    pub const fn is_barrier(self) -> bool {
        matches!(self, Self::Fence | Self::Sync)
    }
}

/// Request for I/O.
///
/// ```
/// use vyre_ioq::{BufferHandle, FileHandle, Request};
///
/// let (weights, pool) = (FileHandle::from_raw(1), BufferHandle::from_raw(1));
/// let request = Request::read(weights, 1 << 20, 4096).into_buffer(pool, 0).exact().with_tag(7);
/// assert_eq!((request.file(), request.count(), request.tag()), (weights, 4096, 7));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    op: Op,
    file: FileHandle,
    buffer: BufferHandle,
    file_offset: u64,
    buffer_offset: u64,
    count: u32,
    tag: u32,
    flags: Flags,
    deadline: u32,
}

/// READ that lacks its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "call `into_buffer` to say where the bytes go"]
pub struct PartialRead(Request);

/// WRITE that lacks its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "call `from_buffer` to say where the bytes come from"]
pub struct PartialWrite(Request);

impl PartialRead {
    /// Sets where the bytes go: `offset` bytes into the range of `buffer`.
    pub const fn into_buffer(self, buffer: BufferHandle, offset: u64) -> Request {
        self.0.with_buffer(buffer, offset)
    }
}

impl PartialWrite {
    /// Sets where the bytes come from: `offset` bytes into the range of `buffer`.
    pub const fn from_buffer(self, buffer: BufferHandle, offset: u64) -> Request {
        self.0.with_buffer(buffer, offset)
    }
}

/// Builds requests.
impl Request {
    const fn new(op: Op, file: FileHandle, file_offset: u64, count: u32) -> Self {
        Self {
            op,
            file,
            buffer: BufferHandle::from_raw(0),
            file_offset,
            buffer_offset: 0,
            count,
            tag: 0,
            flags: Flags::empty(),
            deadline: 0,
        }
    }

    const fn with_buffer(mut self, buffer: BufferHandle, offset: u64) -> Self {
        self.buffer = buffer;
        self.buffer_offset = offset;
        self
    }

    /// Reads `count` bytes at `offset` of a file.
    ///
    /// A short count means the end of the file, or an error after some bytes. A read of the rest tells
    /// which: it moves nothing at the end of the file, and fails otherwise. [`exact`](Self::exact) makes
    /// a short count an error.
    pub const fn read(file: FileHandle, offset: u64, count: u32) -> PartialRead {
        PartialRead(Self::new(Op::Read, file, offset, count))
    }

    /// Writes `count` bytes at `offset` of a file.
    pub const fn write(file: FileHandle, offset: u64, count: u32) -> PartialWrite {
        PartialWrite(Self::new(Op::Write, file, offset, count))
    }

    /// Completes when every request that was published before it in its queue has completed, other fences
    /// aside. It makes nothing durable and does not delay later requests.
    pub const fn fence() -> Self {
        Self::new(Op::Fence, FileHandle::from_raw(0), 0, 0)
    }

    /// Completes when every earlier write to the file is on stable storage. For writes of the same queue,
    /// "earlier" means completed or fenced; for writes of any other queue, completed.
    ///
    /// Once a flush of the file has failed, every SYNC of it fails until the host opens the file anew.
    pub const fn sync(file: FileHandle) -> Self {
        Self::new(Op::Sync, file, 0, 0)
    }

    /// Starts read-ahead of `count` bytes at `offset` of a file.
    pub const fn prefetch(file: FileHandle, offset: u64, count: u32) -> Self {
        Self::new(Op::Prefetch, file, offset, count)
    }

    /// Lets the device load `count` bytes at `offset` of a file by itself, where both sides have agreed on how it
    /// finds them. Bytes past the end of the file are left out.
    ///
    /// Fails with EOPNOTSUPP if the host does not have that for the file, and with ENOBUFS if it keeps no more
    /// bytes in memory for devices. [`read`](Self::read) the bytes then.
    pub const fn map(file: FileHandle, offset: u64, count: u32) -> Self {
        Self::new(Op::Map, file, offset, count)
    }

    /// Sets the tag that comes back with the outcome.
    #[must_use]
    pub const fn with_tag(mut self, tag: u32) -> Self {
        self.tag = tag;
        self
    }

    /// Sets the byte offset in the range of the file handle.
    #[must_use]
    pub const fn with_file_offset(mut self, offset: u64) -> Self {
        self.file_offset = offset;
        self
    }

    /// Sets the byte offset in the range of the buffer handle.
    #[must_use]
    pub const fn with_buffer_offset(mut self, offset: u64) -> Self {
        self.buffer_offset = offset;
        self
    }

    /// Sets the flags, in place of those set before.
    #[must_use]
    pub const fn with_flags(mut self, flags: Flags) -> Self {
        self.flags = flags;
        self
    }

    /// Sets the deadline: the host cancels the request `micros` microseconds after its claim. Zero, the
    /// default, is no deadline.
    #[must_use]
    pub const fn with_deadline(mut self, micros: u32) -> Self {
        self.deadline = micros;
        self
    }

    /// Makes a short count an error. See [`Flags::EXACT`].
    #[must_use]
    pub const fn exact(self) -> Self {
        let flags = self.flags.union(Flags::EXACT);
        self.with_flags(flags)
    }

    /// Makes a write durable before it completes. See [`Flags::DURABLE`].
    #[must_use]
    pub const fn durable(self) -> Self {
        let flags = self.flags.union(Flags::DURABLE);
        self.with_flags(flags)
    }
}

/// Reads the parts of a request.
impl Request {
    /// Returns the operation.
    #[inline]
    pub const fn op(&self) -> Op {
        self.op
    }

    /// Returns the file. The value means nothing for a FENCE, which has no file.
    #[inline]
    pub const fn file(&self) -> FileHandle {
        self.file
    }

    /// Returns the buffer of a READ or WRITE. The value means nothing for other operations, which have
    /// no buffer.
    #[inline]
    pub const fn buffer(&self) -> BufferHandle {
        self.buffer
    }

    /// Returns the byte offset in the range of the file handle.
    #[inline]
    pub const fn file_offset(&self) -> u64 {
        self.file_offset
    }

    /// Returns the byte offset in the range of the buffer handle. It is zero in the bare layout.
    #[inline]
    pub const fn buffer_offset(&self) -> u64 {
        self.buffer_offset
    }

    /// Returns the number of bytes requested.
    #[inline]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Returns the tag, which comes back with the outcome and which the host does not use.
    #[inline]
    pub const fn tag(&self) -> u32 {
        self.tag
    }

    /// Returns the flags. There are none in the bare layout.
    #[inline]
    pub const fn flags(&self) -> Flags {
        self.flags
    }

    /// Returns the microseconds from the claim after which the host cancels the request. Zero is no
    /// deadline, as always in the bare layout.
    #[inline]
    pub const fn deadline(&self) -> u32 {
        self.deadline
    }
}

/// Converts requests to the words of a slot and back.
impl Request {
    /// Returns the words of the request, for a device that fills a slot by other means than
    /// [`DeviceQueue`](crate::DeviceQueue). The status is EMPTY: such a device stores PUBLISHED last,
    /// with release.
    ///
    /// ```
    /// use vyre_ioq::{FileHandle, Request};
    ///
    /// let request = Request::prefetch(FileHandle::from_raw(3), 1 << 32, 4096).with_tag(9);
    /// let image = request.encode();
    /// assert_eq!((image.op, image.destination, image.file_offset_high), (5, 3, 1));
    /// assert_eq!(Request::decode(&image), Ok(request));
    /// ```
    #[must_use]
    pub const fn encode(&self) -> SlotImage {
        let (file, buffer) = (self.file.raw(), self.buffer.raw());
        let (source, destination) = match self.op {
            Op::Read => (file, buffer),
            _ => (buffer, file),
        };
        SlotImage {
            op: self.op.word(),
            source,
            destination,
            file_offset_low: self.file_offset as u32,
            file_offset_high: (self.file_offset >> 32) as u32,
            count: self.count,
            status: 0,
            tag: self.tag,
            buffer_offset_low: self.buffer_offset as u32,
            buffer_offset_high: (self.buffer_offset >> 32) as u32,
            flags: self.flags.bits(),
            deadline: self.deadline,
            reserved: [0; 4],
        }
    }

    /// Decodes and checks the private image of a slot.
    ///
    /// Handles, ranges and rights are checked by the host that holds the tables. Words that the operation
    /// has no use for may hold anything.
    ///
    /// # Errors
    /// The variant of [`DecodeError`] for the first rule that the image breaks, in the order of the words:
    /// word 0 names no operation; word 10 has an unknown flag, or one that the operation does not take;
    /// one of words 12 to 15 is not zero.
    #[inline]
    pub const fn decode(image: &SlotImage) -> Result<Self, DecodeError> {
        let Some(op) = Op::from_word(image.op) else {
            return Err(DecodeError::UnknownOp(image.op));
        };
        let Some(flags) = Flags::from_bits(image.flags) else {
            return Err(DecodeError::UnknownFlag(image.flags));
        };
        if !op.flags().contains(flags) {
            return Err(DecodeError::ForeignFlag(op, flags));
        }
        let [a, b, c, d] = image.reserved;
        if a | b | c | d != 0 {
            return Err(DecodeError::ReservedNotZero(image.reserved));
        }
        // Word 1 is the source of the bytes and word 2 their destination.
        let (file, buffer) = match op {
            Op::Read => (image.source, image.destination),
            _ => (image.destination, image.source),
        };
        Ok(Self {
            op,
            file: FileHandle::from_raw(file),
            buffer: BufferHandle::from_raw(buffer),
            file_offset: image.file_offset_low as u64 | (image.file_offset_high as u64) << 32,
            buffer_offset: image.buffer_offset_low as u64 | (image.buffer_offset_high as u64) << 32,
            count: image.count,
            tag: image.tag,
            flags,
            deadline: image.deadline,
        })
    }
}

/// Error of words that are not a valid request. The device gets EINVAL for each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Word 0 names no operation.
    #[error("operation {0:#x} is unknown; operations are 1 to 6")]
    UnknownOp(u32),
    /// Word 10 has a bit that is not a flag.
    #[error("flags {0:#x} have an unknown bit; clear it")]
    UnknownFlag(u32),
    /// Word 10 has a flag that this operation does not take.
    #[error("{0:?} does not take {1:?}; clear the flag")]
    ForeignFlag(Op, Flags),
    /// One of words 12 to 15 is not zero.
    #[error("reserved words {0:x?} are not zero; clear them")]
    ReservedNotZero([u32; 4]),
}

impl DecodeError {
    /// Returns the errno that the device gets.
    pub const fn errno(&self) -> Errno {
        Errno::EINVAL
    }
}

#[cfg(kani)]
mod proofs;
