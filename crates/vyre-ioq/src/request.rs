//! Requests: built by the device, decoded and checked by the host.

use core::fmt;

use crate::abi::{SlotImage, op};
use crate::errno::Errno;

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// A number that the host gave out and alone can resolve. It grants nothing by itself:
        /// the host checks it, its rights and its byte range on every request.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u32);

        impl $name {
            /// The handle that a word of a slot holds.
            pub const fn from_raw(raw: u32) -> Self {
                Self(raw)
            }

            /// The word that goes into a slot.
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
    /// Names a file, and a byte range of it, to the host.
    FileHandle
}
handle! {
    /// Names a buffer, and a byte range of it, to the host.
    BufferHandle
}

bitflags::bitflags! {
    /// Flags of a request: word 10. A bit that the operation does not know is EINVAL.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Flags: u32 {
        /// WRITE: the bytes are on stable storage when the request completes.
        const DURABLE = 1;
        /// READ, WRITE: fewer bytes than asked for is the error ENODATA, or the error that cut the
        /// transfer short.
        const EXACT = 2;
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Op {
    /// File to buffer, as pread(2).
    Read = op::READ,
    /// Buffer to file, as pwrite(2).
    Write = op::WRITE,
    /// Completes when every request that was published before it has completed, other fences aside.
    Fence = op::FENCE,
    /// Completes when earlier writes to a file are on stable storage: of its queue, those that are
    /// completed or fenced; of any other, those that had completed.
    Sync = op::SYNC,
    /// Starts read-ahead, and completes when all of it has been started: it does not wait for the bytes.
    Prefetch = op::PREFETCH,
}

impl Op {
    /// The operation that word 0 names, if it names one.
    #[inline]
    pub const fn from_word(word: u32) -> Option<Self> {
        Some(match word {
            op::READ => Self::Read,
            op::WRITE => Self::Write,
            op::FENCE => Self::Fence,
            op::SYNC => Self::Sync,
            op::PREFETCH => Self::Prefetch,
            _ => return None,
        })
    }

    /// The flags that mean something to this operation.
    #[inline]
    pub const fn flags(self) -> Flags {
        match self {
            Self::Read => Flags::EXACT,
            Self::Write => Flags::DURABLE.union(Flags::EXACT),
            Self::Fence | Self::Sync | Self::Prefetch => Flags::empty(),
        }
    }

    /// Whether other requests of the queue decide when this one completes. The host looks at
    /// every slot once more before it starts one, so that earlier publications are in.
    #[inline]
    pub const fn is_ordered(self) -> bool {
        matches!(self, Self::Fence | Self::Sync)
    }
}

/// One request for I/O.
///
/// ```
/// use vyre_ioq::{BufferHandle, FileHandle, Request};
///
/// let (weights, pool) = (FileHandle::from_raw(1), BufferHandle::from_raw(1));
/// let request = Request::read(weights, 1 << 20, 4096).into(pool, 0).exact().tag(7);
/// assert_eq!(request.count, 4096);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// What to do.
    pub op: Op,
    /// Word 1: file of a READ, buffer of a WRITE.
    pub source: u32,
    /// Word 2: buffer of a READ, file of every other operation that has one.
    pub destination: u32,
    /// Byte offset within the file handle's range.
    pub file_offset: u64,
    /// Bytes asked for.
    pub count: u32,
    /// The device's own; comes back with the outcome.
    pub tag: u32,
    /// Byte offset within the buffer handle's range. Zero in the bare layout.
    pub buffer_offset: u64,
    /// See [`Flags`]. None in the bare layout.
    pub flags: Flags,
    /// Microseconds from the claim after which the host cancels it; 0 is never, as in the bare
    /// layout.
    pub deadline: u32,
}

/// A read that lacks its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "call `into` to say where the bytes go"]
pub struct PartialRead(Request);

/// A write that lacks its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "call `from` to say where the bytes come from"]
pub struct PartialWrite(Request);

impl PartialRead {
    /// Where the bytes go: `offset` bytes into the range of `buffer`.
    pub const fn into(mut self, buffer: BufferHandle, offset: u64) -> Request {
        self.0.destination = buffer.raw();
        self.0.buffer_offset = offset;
        self.0
    }
}

impl PartialWrite {
    /// Where the bytes come from: `offset` bytes into the range of `buffer`.
    pub const fn from(mut self, buffer: BufferHandle, offset: u64) -> Request {
        self.0.source = buffer.raw();
        self.0.buffer_offset = offset;
        self.0
    }
}

impl Request {
    const fn new(op: Op) -> Self {
        Self {
            op,
            source: 0,
            destination: 0,
            file_offset: 0,
            count: 0,
            tag: 0,
            buffer_offset: 0,
            flags: Flags::empty(),
            deadline: 0,
        }
    }

    /// Reads `count` bytes at `offset` of a file. A short count is the end of the file, or where an error
    /// came after some bytes: a read of the rest moves nothing at the end, and meets the error otherwise.
    /// [`exact`](Self::exact) makes it an error.
    pub const fn read(file: FileHandle, offset: u64, count: u32) -> PartialRead {
        let mut request = Self::new(Op::Read);
        request.source = file.raw();
        request.file_offset = offset;
        request.count = count;
        PartialRead(request)
    }

    /// Writes `count` bytes at `offset` of a file.
    pub const fn write(file: FileHandle, offset: u64, count: u32) -> PartialWrite {
        let mut request = Self::new(Op::Write);
        request.destination = file.raw();
        request.file_offset = offset;
        request.count = count;
        PartialWrite(request)
    }

    /// Completes when every request published before it, in its queue, has completed, other fences
    /// aside. It orders; it makes nothing durable, and delays nobody who came later.
    pub const fn fence() -> Self {
        Self::new(Op::Fence)
    }

    /// Completes when every earlier write to the file is on stable storage: of this queue, those that
    /// are completed or fenced; of any other, those that had completed. It fails for good once a flush
    /// of the file has failed, until the host opens the file anew.
    pub const fn sync(file: FileHandle) -> Self {
        let mut request = Self::new(Op::Sync);
        request.destination = file.raw();
        request
    }

    /// Starts read-ahead of `count` bytes at `offset`.
    pub const fn prefetch(file: FileHandle, offset: u64, count: u32) -> Self {
        let mut request = Self::new(Op::Prefetch);
        request.destination = file.raw();
        request.file_offset = offset;
        request.count = count;
        request
    }

    /// Sets the tag that comes back with the outcome.
    #[must_use]
    pub const fn tag(mut self, tag: u32) -> Self {
        self.tag = tag;
        self
    }

    /// Makes a short count an error. See [`Flags::EXACT`].
    #[must_use]
    pub const fn exact(mut self) -> Self {
        self.flags = self.flags.union(Flags::EXACT);
        self
    }

    /// Makes a write durable before it completes. See [`Flags::DURABLE`].
    #[must_use]
    pub const fn durable(mut self) -> Self {
        self.flags = self.flags.union(Flags::DURABLE);
        self
    }

    /// Has the host cancel the request `micros` microseconds after it claimed it; 0 is never.
    #[must_use]
    pub const fn deadline(mut self, micros: u32) -> Self {
        self.deadline = micros;
        self
    }

    /// The words of the request, for whoever lays them into a slot by other means than a
    /// [`DeviceQueue`](crate::DeviceQueue). The status is EMPTY: PUBLISHED is stored last, with
    /// release.
    ///
    /// ```
    /// use vyre_ioq::{FileHandle, Request};
    ///
    /// let request = Request::prefetch(FileHandle::from_raw(3), 1 << 32, 4096).tag(9);
    /// let image = request.encode();
    /// assert_eq!((image.op, image.destination, image.file_offset_high), (5, 3, 1));
    /// assert_eq!(Request::decode(&image), Ok(request));
    /// ```
    #[must_use]
    pub const fn encode(&self) -> SlotImage {
        SlotImage {
            op: self.op as u32,
            source: self.source,
            destination: self.destination,
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

    /// Checks a private image of a slot. Handles, ranges and rights are for whoever keeps the
    /// tables. Words that the operation has no use for may hold anything.
    ///
    /// # Errors
    /// The first rule that the image breaks, in the order of the words.
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
        Ok(Self {
            op,
            source: image.source,
            destination: image.destination,
            file_offset: image.file_offset_low as u64 | (image.file_offset_high as u64) << 32,
            count: image.count,
            tag: image.tag,
            buffer_offset: image.buffer_offset_low as u64 | (image.buffer_offset_high as u64) << 32,
            flags,
            deadline: image.deadline,
        })
    }
}

/// Why a slot's words are no request. All are EINVAL on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DecodeError {
    /// Word 0 names no operation.
    #[error("operation {0:#x} is unknown; operations are 1 to 5")]
    UnknownOp(u32),
    /// Word 10 has a bit that no operation knows.
    #[error("flags {0:#x} have an unknown bit; clear it")]
    UnknownFlag(u32),
    /// Word 10 has a bit that this operation does not know.
    #[error("{0:?} does not take {1:?}; clear the flag")]
    ForeignFlag(Op, Flags),
    /// One of words 12 to 15 is set.
    #[error("reserved words {0:x?} are not zero; clear them")]
    ReservedNotZero([u32; 4]),
}

impl DecodeError {
    /// What the device is told.
    pub const fn errno(&self) -> Errno {
        Errno::EINVAL
    }
}

#[cfg(kani)]
mod proofs;
