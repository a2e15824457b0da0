//! What can be asked of a transport, and what it answers.

use rustix::io::Errno;

/// A slot of a transport's file table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileSlot(u32);

impl FileSlot {
    /// The slot with this index.
    #[inline]
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// The index of the slot.
    #[inline]
    pub const fn index(self) -> u32 {
        self.0
    }
}

/// A slot of a transport's buffer table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferSlot(u32);

impl BufferSlot {
    /// The slot with this index.
    #[inline]
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// The index of the slot.
    #[inline]
    pub const fn index(self) -> u32 {
        self.0
    }
}

/// One operation. Those in flight at once may run in any order: submission order promises nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// `pread(2)` into a buffer. Completes with the bytes read; zero is the end of the file.
    Read {
        /// The file to read.
        file: FileSlot,
        /// Where in the file. Ignored for a file that cannot seek.
        offset: u64,
        /// The buffer to fill.
        buffer: BufferSlot,
        /// Where in the buffer.
        buffer_offset: u64,
        /// How many bytes, at most.
        len: u32,
    },
    /// `pwrite(2)` from a buffer. Completes with the bytes written.
    Write {
        /// The file to write.
        file: FileSlot,
        /// Where in the file. Ignored for a file that cannot seek.
        offset: u64,
        /// The buffer to take the bytes from.
        buffer: BufferSlot,
        /// Where in the buffer.
        buffer_offset: u64,
        /// How many bytes, at most.
        len: u32,
        /// Whether the bytes are on stable storage when the write completes (`RWF_DSYNC`).
        durable: bool,
    },
    /// `fsync(2)`. Covers the writes that had completed when it was pushed, no others.
    Sync {
        /// The file to bring to stable storage.
        file: FileSlot,
        /// `fdatasync(2)` instead: the bytes, and only the metadata that finding them needs.
        data_only: bool,
    },
    /// `posix_fadvise(2)` with `WILLNEED`: starts read-ahead. Of zero bytes it does nothing, unlike
    /// the system call, for which zero means the rest of the file. The kernel reads ahead only so much
    /// for one operation, and completes it all the same: ask for more in pieces of
    /// [`FileTraits::read_ahead`](crate::FileTraits::read_ahead) bytes.
    Prefetch {
        /// The file to read ahead in.
        file: FileSlot,
        /// Where in the file.
        offset: u64,
        /// How many bytes.
        len: u32,
    },
}

impl Operation {
    /// The file that the operation is on.
    #[inline]
    pub const fn file(&self) -> FileSlot {
        match *self {
            Self::Read { file, .. }
            | Self::Write { file, .. }
            | Self::Sync { file, .. }
            | Self::Prefetch { file, .. } => file,
        }
    }
}

/// Names one operation in flight. Once that has been reaped the token names nothing: a generation
/// tells it from later operations in the same place (until that place was used 2^31 times more).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub(crate) u64);

impl Token {
    /// A token for an implementation of [`Transport`](crate::Transport). Must differ from that of
    /// every other operation in flight, and should differ from those of earlier ones.
    #[inline]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The number that it was made of.
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) const fn pack(index: u32, generation: u32) -> Self {
        Self((generation as u64) << 32 | index as u64)
    }

    #[inline]
    pub(crate) const fn index(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    pub(crate) const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// What the request to cancel this operation carries. Its generation is even, which no
    /// operation in flight has.
    #[inline]
    pub(crate) const fn cancel(self) -> Self {
        Self::pack(self.index(), self.generation().wrapping_add(1))
    }

    /// Token of the poll that wakes a ring. No operation has this index, and the generation is
    /// even.
    pub(crate) const ALARM: Self = Self::pack(u32::MAX, 0);

    /// Whether this is of a request to cancel.
    #[inline]
    pub(crate) const fn is_cancel(self) -> bool {
        self.generation() & 1 == 0
    }

    /// The operation that this request is to cancel.
    #[inline]
    pub(crate) const fn cancelled(self) -> Self {
        Self::pack(self.index(), self.generation().wrapping_sub(1))
    }
}

/// The end of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Completion {
    /// The caller's own word, given with the push.
    pub user: u64,
    /// What the push returned. It is already stale.
    pub token: Token,
    /// Number of bytes moved (zero for operations that move none), or the errno. `EINTR` and
    /// `EAGAIN` are passed on: the caller decides whether to push again. A [`Ring`](crate::Ring)
    /// serves a file with offsets by worker threads after its first `EAGAIN`, so that the next push
    /// can succeed.
    pub result: Result<u32, Errno>,
}

impl Completion {
    /// Creates the completion of an operation, for an implementation of
    /// [`Transport`](crate::Transport).
    #[inline]
    pub const fn new(user: u64, token: Token, result: Result<u32, Errno>) -> Self {
        Self {
            user,
            token,
            result,
        }
    }

    /// Builds the outcome from a result as the kernel words it: a count, or a negated errno.
    #[inline]
    pub(crate) fn from_raw(user: u64, token: Token, res: i32) -> Self {
        let result = match u32::try_from(res) {
            Ok(count) => Ok(count),
            Err(_) => Err(Errno::from_raw_os_error(res.wrapping_neg())),
        };
        Self {
            user,
            token,
            result,
        }
    }
}
