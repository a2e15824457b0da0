//! Errors: one variant for each cause.

use rustix::io::Errno;
use thiserror::Error;

/// The reason that a file was not mapped. Read it by `pread` or a ring instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MapError {
    /// The range has no bytes, or ends before it begins.
    #[error("the range has no bytes: give one with at least one byte")]
    EmptyRange,
    /// The range does not fit the file offsets or the address space.
    #[error("the range does not fit the address space: map a shorter range, below offset 2^63")]
    RangeTooLong,
    /// The file is not a regular file.
    #[error("only regular files are mapped: read pipes, devices and directories by other calls")]
    NotRegular,
    /// The file is open for writing only.
    #[error("the file is open for writing only: open it for reading")]
    WriteOnly,
    /// The file is open with `O_DIRECT`, so its reader does not want the page cache.
    #[error("the file is open with O_DIRECT, which bypasses the page cache: open it without")]
    Direct,
    /// The file is in persistent memory that is mapped directly (DAX), so it has no page cache.
    #[error("the file is mapped directly (DAX) and has no page cache: read it by pread")]
    Dax,
    /// The file system depends on another process or machine, which can change the file without this
    /// kernel's knowledge, and may never answer a fault.
    #[error("file system {magic:#x} depends on another process or machine: read the file by pread")]
    Remote {
        /// The magic number of statfs(2).
        magic: u32,
    },
    /// The file is on overlayfs. A mapping of a lower file never shows what is written after a copy-up.
    #[error("a mapping on overlayfs can miss later writes: map the file on its own file system")]
    Overlay,
    /// The file is on XFS, whose buffered reads take the lock of the inode: they show a write or a
    /// truncation whole or not at all. A copy out of a mapping can show a part.
    #[error("XFS reads keep rules that a mapping does not: read the file by pread")]
    Xfs,
    /// The file consists of huge pages.
    #[error("files of huge pages (hugetlbfs) are not mapped: read the file by pread")]
    HugePages,
    /// It has not been shown that copies are right on this file system.
    #[error("file system {magic:#x} is not one of ext4 and tmpfs: read the file by pread")]
    UnknownFileSystem {
        /// The magic number of statfs(2).
        magic: u32,
    },
    /// The kernel did not answer a question about the file.
    #[error(
        "the file could not be examined ({0}): allow fstat, statx, fstatfs and fcntl in seccomp"
    )]
    Query(Errno),
    /// The kernel refused the mapping.
    #[error("the kernel refused the mapping ({0}): raise RLIMIT_AS or vm.max_map_count")]
    Map(Errno),
}

/// The reason that a thread cannot recover from a SIGBUS, so that it must not copy out of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// The copy does not exist for this architecture.
    #[error("not available on this architecture: use x86-64 or AArch64, or read by pread")]
    Unavailable,
    /// The thread blocks SIGBUS: a fault would kill the process.
    #[error("the thread blocks SIGBUS: unblock the signal, or read by pread on this thread")]
    Blocked,
    /// Another handler of SIGBUS has replaced the one of this crate.
    #[error(
        "another handler of SIGBUS was installed after this crate's: install it before the first use \
         of this crate, or read by pread"
    )]
    Replaced,
    /// The kernel refused the handler.
    #[error("sigaction was refused ({0}): allow it in seccomp")]
    Install(Errno),
}

/// The reason that a copy is not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The range is not inside the mapping.
    #[error("the range is not inside the mapping: check it against Mapping::range")]
    OutOfRange,
    /// The destination is shorter than the range.
    #[error(
        "the destination has {len} bytes and the range has {wanted}: give a longer destination"
    )]
    DestinationTooShort {
        /// The number of bytes of the destination.
        len: usize,
        /// The number of bytes of the range.
        wanted: usize,
    },
    /// An access raised SIGBUS: the file ends before the range does, or a page could not be read.
    #[error(
        "the mapping raised SIGBUS after {copied} bytes: read the range by pread, which knows why"
    )]
    Fault {
        /// A number of bytes at the start of the range that were copied: all before the fault on x86-64,
        /// and all but the last 63 at most on AArch64. Later bytes of the destination may have been written,
        /// too.
        copied: usize,
    },
}
