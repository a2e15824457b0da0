//! Errors: one variant for each cause.

use rustix::io::Errno;
use thiserror::Error;

use crate::operation::{BufferSlot, FileSlot};

/// The reason that a [`Buffer`](crate::Buffer) was not created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BufferError {
    /// The length is zero.
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
        /// The errno of `mmap`.
        errno: Errno,
    },
    /// The kernel refused to keep the mapping out of forked children. A copy-on-write in a child
    /// would detach the memory from the device.
    #[error("madvise(MADV_DONTFORK) was refused ({0}): allow madvise in the seccomp filter")]
    DontFork(Errno),
    /// The kernel refused to create a memfd.
    #[error(
        "memfd_create was refused ({0}): raise RLIMIT_NOFILE, or allow it in the seccomp filter"
    )]
    Memfd(Errno),
    /// The kernel refused the length of the memfd.
    #[error("a memfd of {len} bytes was refused ({errno}): ask for less, or raise RLIMIT_FSIZE")]
    Resize {
        /// The length asked for.
        len: usize,
        /// The errno of `ftruncate`, or `EFBIG` if it was not called: beyond `RLIMIT_FSIZE` it would
        /// send SIGXFSZ.
        errno: Errno,
    },
    /// The descriptor is not one of a memfd.
    #[error("the descriptor is no memfd ({0}): give one that Buffer::memfd made")]
    NotMemfd(Errno),
    /// The memfd is not sealed against shrinking. An access to a page that was removed would raise
    /// SIGBUS.
    #[error("the memfd can shrink: seal it with F_SEAL_SHRINK where it is made")]
    CanShrink,
    /// The memfd could not be sealed. A process that shares it could then end this one by SIGBUS.
    #[error("the memfd took no seals ({0}): allow fcntl F_ADD_SEALS in the seccomp filter")]
    Seal(Errno),
}

/// The reason that an operation was not queued. Nothing will complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PushError {
    /// As many operations are in flight as the transport takes.
    #[error("the transport is full: reap completions, then push again")]
    Full,
    /// The transport failed for good earlier and takes nothing more.
    #[error("the transport failed earlier ({0}): reap what is left, then build a new one")]
    Poisoned(Errno),
    /// The file slot is empty or beyond the table.
    #[error("file slot {} holds no file: call set_file first, on a transport whose table reaches so far", .0.index())]
    UnknownFile(FileSlot),
    /// The buffer slot is empty or beyond the table.
    #[error("buffer slot {} holds no buffer: call set_buffer first, on a transport whose table reaches so far", .0.index())]
    UnknownBuffer(BufferSlot),
    /// The transport does not have this operation.
    #[error("the transport does not have this operation: use one that it has")]
    Unsupported,
    /// The range leaves the buffer, or passes `i64::MAX` in the file.
    #[error("the range leaves the buffer or the file's offsets: check offset and length")]
    OutOfRange,
}

/// The reason that a transport could not submit or wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EnterError {
    /// The transport has failed for good. Operations that the kernel had not taken complete with this
    /// errno in the next reap. Operations that it had taken complete with their own results.
    #[error("io_uring_enter failed for good ({0}): reap what is left, then build a new transport")]
    Fatal(Errno),
}

/// The reason that a slot was not changed. It holds what it held before, except after
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
    /// Operations on the slot have not been reaped yet.
    #[error("{in_flight} operations are in flight on this slot: reap or cancel them first")]
    Busy {
        /// The number of these operations.
        in_flight: u32,
    },
    /// The buffer has no bytes.
    #[error("an empty buffer cannot be registered: give one with at least one byte")]
    EmptyBuffer,
    /// The kernel refused the change.
    #[error("the kernel refused the registration ({0}): check the descriptor and RLIMIT_NOFILE")]
    Kernel(Errno),
    /// The kernel refused the change, and then the file that the slot held before. The slot is empty.
    #[error(
        "the kernel refused the registration ({0}) and the file that the slot held before: check \
         RLIMIT_NOFILE, then set the slot again"
    )]
    Emptied(Errno),
}

/// The deadline passed before all operations had completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{in_flight} operations are still in flight: the kernel may yet write to their buffers")]
#[non_exhaustive]
pub struct Busy {
    /// The number of operations that the kernel had not given back.
    pub in_flight: u32,
}

impl Busy {
    /// Creates the error for this many operations, for an implementation of
    /// [`Transport`](crate::Transport).
    pub const fn new(in_flight: u32) -> Self {
        Self { in_flight }
    }
}

/// The reason that a [`Ring`](crate::Ring) or a [`ThreadPool`](crate::ThreadPool) was not built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The kernel does not take this number of entries.
    #[error("a ring cannot have {0} entries: ask for 1 to 32768")]
    Entries(u32),
    /// The table cannot have this many slots.
    #[error("a table cannot have {asked} {what}: ask for at most {max}")]
    TableSize {
        /// "files" or "buffers".
        what: &'static str,
        /// The number asked for.
        asked: u32,
        /// The largest number possible.
        max: u32,
    },
    /// A pool of threads cannot have this number of workers.
    #[error("a pool cannot have {0} workers: ask for 2 to 4096")]
    Workers(u32),
    /// The kernel started no thread for a pool.
    #[error(
        "no thread could be started ({0}): raise RLIMIT_NPROC or the pids.max of the control group"
    )]
    NoThread(Errno),
    /// The kernel or a sandbox forbids io_uring.
    #[error(
        "io_uring is forbidden (EPERM or EACCES): check /proc/sys/kernel/io_uring_disabled (0 allows it) and \
         the seccomp profile of the container"
    )]
    Forbidden,
    /// The kernel was built without io_uring, or a sandbox hides it.
    #[error(
        "there is no io_uring here (ENOSYS): use Linux 5.10 or later, outside sandboxes that hide it"
    )]
    Unavailable,
    /// The kernel refused memory for the ring.
    #[error("no memory for the ring (ENOMEM): raise RLIMIT_MEMLOCK or ask for fewer entries")]
    NoMemory,
    /// No file descriptor was free.
    #[error("no descriptor for the ring (EMFILE or ENFILE): raise RLIMIT_NOFILE or fs.file-max")]
    NoDescriptors,
    /// The kernel refused even a set-up without flags.
    #[error("every set-up was refused as invalid (EINVAL): use Linux 5.10 or later")]
    TooOld,
    /// The kernel made the ring, but a trial operation failed.
    #[error(
        "the ring was made but a trial operation failed ({0}): allow io_uring_enter in seccomp"
    )]
    Trial(Errno),
    /// The kernel lacks an operation, by its name without prefix.
    #[error("this io_uring has no operation {0}: use Linux 5.10 or later, or lift the restriction")]
    MissingOperation(&'static str),
    /// The kernel returned another errno.
    #[error("io_uring_setup failed ({0})")]
    Kernel(Errno),
}

impl SetupError {
    /// Returns what happened, without what to do about it.
    pub fn cause(self) -> String {
        let text = self.to_string();
        text.split_once(": ")
            .map_or(text.as_str(), |(cause, _)| cause)
            .to_owned()
    }

    /// Returns whether the kernel or a sandbox refuses a ring of any kind, so that only another
    /// transport helps. Want of memory or of descriptors, and numbers out of range, are other matters.
    pub const fn refuses_ring(self) -> bool {
        match self {
            Self::Forbidden | Self::Unavailable | Self::TooOld | Self::MissingOperation(_) => true,
            Self::Trial(errno) => matches!(errno, Errno::PERM | Errno::ACCESS | Errno::NOSYS),
            _ => false,
        }
    }
}
