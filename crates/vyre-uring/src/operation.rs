//! The operations of a transport, and the slots that they name.

/// A slot of a transport's file table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileSlot(u32);

impl FileSlot {
    /// Names the slot with this index.
    #[inline]
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// Returns the index of the slot.
    #[inline]
    pub const fn index(self) -> u32 {
        self.0
    }
}

/// A slot of a transport's buffer table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferSlot(u32);

impl BufferSlot {
    /// Names the slot with this index.
    #[inline]
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// Returns the index of the slot.
    #[inline]
    pub const fn index(self) -> u32 {
        self.0
    }
}

/// One operation. Operations in flight at the same time run in any order: the order of submission
/// promises nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// `pread(2)` into a buffer. Completes with the number of bytes read; zero means the end of the
    /// file.
    Read {
        /// The file to read.
        file: FileSlot,
        /// The offset in the file, in bytes. Ignored for a file that cannot seek.
        offset: u64,
        /// The buffer to fill.
        buffer: BufferSlot,
        /// The offset in the buffer, in bytes.
        buffer_offset: u64,
        /// The largest number of bytes to read.
        len: u32,
    },
    /// `pwrite(2)` from a buffer. Completes with the number of bytes written.
    Write {
        /// The file to write.
        file: FileSlot,
        /// The offset in the file, in bytes. Ignored for a file that cannot seek.
        offset: u64,
        /// The buffer that holds the bytes.
        buffer: BufferSlot,
        /// The offset in the buffer, in bytes.
        buffer_offset: u64,
        /// The largest number of bytes to write.
        len: u32,
        /// Set if the bytes must be on stable storage when the write completes (`RWF_DSYNC`).
        durable: bool,
    },
    /// `fsync(2)`. Covers the writes that had completed when it was pushed, and no others.
    Sync {
        /// The file to bring to stable storage.
        file: FileSlot,
        /// Set for `fdatasync(2)` instead, which covers the data and only the metadata that is
        /// needed to read it.
        data_only: bool,
    },
    /// `posix_fadvise(2)` with `WILLNEED`: starts read-ahead. A prefetch of zero bytes does nothing,
    /// unlike the system call, for which zero means the rest of the file.
    ///
    /// The kernel limits the read-ahead of one operation; an operation beyond the limit still
    /// completes without an error. Request more in pieces of
    /// [`FileTraits::read_ahead`](crate::FileTraits::read_ahead) bytes.
    Prefetch {
        /// The file to read ahead in.
        file: FileSlot,
        /// The offset in the file, in bytes.
        offset: u64,
        /// The number of bytes.
        len: u32,
    },
    /// Lets a device load a part of a file by itself: it completes with zero once the device can load all of
    /// the part that the file holds. No transport of this crate has it
    /// ([`PushError::Unsupported`](crate::PushError::Unsupported)). It is for a transport around another one.
    Map {
        /// The file to map.
        file: FileSlot,
        /// The offset in the file, in bytes.
        offset: u64,
        /// The number of bytes.
        len: u32,
    },
}

impl Operation {
    /// Returns the slot of the file that the operation is on.
    #[inline]
    pub const fn file(&self) -> FileSlot {
        match *self {
            Self::Read { file, .. }
            | Self::Write { file, .. }
            | Self::Sync { file, .. }
            | Self::Prefetch { file, .. }
            | Self::Map { file, .. } => file,
        }
    }

    /// Returns the slot of the buffer that the operation transfers to or from, if it has one.
    #[inline]
    pub const fn buffer(&self) -> Option<BufferSlot> {
        match *self {
            Self::Read { buffer, .. } | Self::Write { buffer, .. } => Some(buffer),
            Self::Sync { .. } | Self::Prefetch { .. } | Self::Map { .. } => None,
        }
    }
}
