//! The errors, one variant per cause.

use rustix::io::Errno;
use thiserror::Error;

use crate::operation::{BufferSlot, FileSlot};

/// Why a [`Buffer`](crate::Buffer) could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BufferError {
    /// A buffer of no bytes was asked for.
    #[error("a buffer needs at least one byte: ask for a length above zero")]
    Empty,
    /// The length does not fit the address space once rounded up to pages.
    #[error("{0} bytes do not fit the address space: ask for less")]
    TooLong(usize),
    /// The kernel refused the mapping.
    #[error(
        "the kernel refused a mapping of {len} bytes ({errno}): ask for less, or raise RLIMIT_AS \
         or vm.max_map_count"
    )]
    Map {
        /// The length asked for.
        len: usize,
        /// What `mmap` answered.
        errno: Errno,
    },
    /// The mapping could not be kept out of forked children, which would let a child's
    /// copy-on-write detach the memory from the device.
    #[error("madvise(MADV_DONTFORK) was refused ({0}): allow madvise in the seccomp filter")]
    DontFork(Errno),
    /// The kernel gave no memfd.
    #[error(
        "memfd_create was refused ({0}): raise RLIMIT_NOFILE, or allow it in the seccomp filter"
    )]
    Memfd(Errno),
    /// The memfd did not take its length.
    #[error("a memfd of {len} bytes was refused ({errno}): ask for less, or raise RLIMIT_FSIZE")]
    Resize {
        /// The length asked for.
        len: usize,
        /// Errno that `ftruncate` gave, or `EFBIG` if it was not called: past `RLIMIT_FSIZE` it
        /// would have sent SIGXFSZ.
        errno: Errno,
    },
    /// The descriptor is of something else.
    #[error("the descriptor is no memfd ({0}): give one that Buffer::memfd made")]
    NotMemfd(Errno),
    /// The memfd could lose pages, and whoever touches one that is gone ends by SIGBUS.
    #[error("the memfd can shrink: seal it with F_SEAL_SHRINK where it is made")]
    CanShrink,
    /// The memfd could not be sealed, so that whoever it is shared with could end this process.
    #[error("the memfd took no seals ({0}): allow fcntl F_ADD_SEALS in the seccomp filter")]
    Seal(Errno),
}

/// Why an operation was not queued. Nothing was queued and nothing will complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PushError {
    /// As many operations are in flight as the transport admits.
    #[error("the transport is full: reap completions, then push again")]
    Full,
    /// The transport met a fatal error earlier and takes nothing more.
    #[error("the transport failed earlier ({0}): reap what is left, then build a new one")]
    Poisoned(Errno),
    /// The file slot is empty or beyond the table.
    #[error("file slot {} holds no file: call set_file first, on a transport whose table reaches so far", .0.index())]
    UnknownFile(FileSlot),
    /// The buffer slot is empty or beyond the table.
    #[error("buffer slot {} holds no buffer: call set_buffer first, on a transport whose table reaches so far", .0.index())]
    UnknownBuffer(BufferSlot),
    /// The transport has no such operation.
    #[error("the transport does not have this operation: use one that it has")]
    Unsupported,
    /// The bytes named are not all inside the buffer, or the file offset passes `i64::MAX`.
    #[error("the range leaves the buffer or the file's offsets: check offset and length")]
    OutOfRange,
}

/// Why the kernel could not be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EnterError {
    /// The ring cannot be used any more. What the kernel had not taken yet completes with this
    /// errno in the next reap; what it had taken completes as ever.
    #[error("io_uring_enter failed for good ({0}): reap what is left, then build a new transport")]
    Fatal(Errno),
}

/// Reason that a table slot was not changed. The slot is as it was, except after
/// [`Emptied`](Self::Emptied).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The file slot is beyond the table.
    #[error("file slot {} is beyond the table: build the ring with more .files()", .0.index())]
    UnknownFile(FileSlot),
    /// The buffer slot is beyond the table.
    #[error("buffer slot {} is beyond the table: build the ring with more .buffers()", .0.index())]
    UnknownBuffer(BufferSlot),
    /// Operations on the slot's present tenant have not been reaped yet.
    #[error("{in_flight} operations are in flight on this slot: reap or cancel them first")]
    Busy {
        /// How many.
        in_flight: u32,
    },
    /// A buffer of no bytes cannot be an operand.
    #[error("an empty buffer cannot be registered: give one with at least one byte")]
    EmptyBuffer,
    /// The kernel refused the change.
    #[error("the kernel refused the registration ({0}): check the descriptor and RLIMIT_NOFILE")]
    Kernel(Errno),
    /// The kernel refused the change, and then the file that the slot had before. The slot is empty.
    #[error(
        "the kernel refused the registration ({0}) and the file that was there before: check \
         RLIMIT_NOFILE, then fill the slot again"
    )]
    Emptied(Errno),
}

/// Some operations had not completed when the time was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{in_flight} operations are still in flight: the kernel may yet write to their buffers")]
#[non_exhaustive]
pub struct Busy {
    /// How many the kernel had not given back.
    pub in_flight: u32,
}

impl Busy {
    /// Makes the error of an implementation of [`Transport`](crate::Transport) that has so many
    /// operations in flight.
    pub const fn new(in_flight: u32) -> Self {
        Self { in_flight }
    }
}

/// Why a [`Ring`](crate::Ring) could not be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The number of entries is not one that the kernel takes.
    #[error("a ring cannot have {0} entries: ask for 1 to 32768")]
    Entries(u32),
    /// More slots than a table can have.
    #[error("a table cannot have {asked} {what}: ask for at most {max}")]
    TableSize {
        /// "files" or "buffers".
        what: &'static str,
        /// What was asked for.
        asked: u32,
        /// What is possible.
        max: u32,
    },
    /// io_uring is forbidden here.
    #[error(
        "io_uring is forbidden (EPERM or EACCES): check /proc/sys/kernel/io_uring_disabled (0 allows it) and \
         the seccomp profile of the container"
    )]
    Forbidden,
    /// The kernel was built without io_uring, or a sandbox hides it.
    #[error("no io_uring here (ENOSYS): use Linux 5.15 or later, outside sandboxes that hide it")]
    Unavailable,
    /// Memory for the ring was refused.
    #[error("no memory for the ring (ENOMEM): raise RLIMIT_MEMLOCK or ask for fewer entries")]
    NoMemory,
    /// No file descriptor was free.
    #[error("no descriptor for the ring (EMFILE or ENFILE): raise RLIMIT_NOFILE or fs.file-max")]
    NoDescriptors,
    /// Even the plainest set-up was refused as invalid.
    #[error("every set-up was refused as invalid (EINVAL): use Linux 5.15 or later")]
    TooOld,
    /// The ring was made, but a trial operation failed.
    #[error(
        "the ring was made but a trial operation failed ({0}): allow io_uring_enter in seccomp"
    )]
    Trial(Errno),
    /// Another answer of the kernel.
    #[error("io_uring_setup failed ({0})")]
    Kernel(Errno),
}
