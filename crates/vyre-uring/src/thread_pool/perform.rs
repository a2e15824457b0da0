//! The system calls of the pool: one operation, in the calling thread.
#![expect(
    unsafe_code,
    reason = "passes addresses of shared memory to the kernel"
)]

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use libc::c_long;
use rustix::fs::{Advice, fadvise, fdatasync, fsync};
use rustix::io::{Errno, ReadWriteFlags};

use crate::buffer::Buffer;
use crate::settings::MAX_RW;

const NO_FLAGS: ReadWriteFlags = ReadWriteFlags::empty();

/// A range inside a buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span<'a> {
    buffer: &'a Buffer,
    offset: usize,
    len: usize,
}

impl<'a> Span<'a> {
    /// Names a range of a buffer, or its beginning if one call cannot transfer that much. Returns
    /// `None` if the range leaves the buffer.
    #[inline]
    pub(super) fn new(buffer: &'a Buffer, offset: u64, len: u32) -> Option<Self> {
        let end = offset.checked_add(len.into())?;
        (end <= buffer.len() as u64).then(|| Self {
            buffer,
            // In range, so both fit the address space.
            offset: offset as usize,
            len: len.min(MAX_RW) as usize,
        })
    }

    #[inline]
    pub(super) const fn len(&self) -> u32 {
        self.len as u32
    }

    /// Returns the range with a handle of its own on the buffer.
    pub(super) fn to_memory(self) -> Memory {
        Memory {
            buffer: self.buffer.clone(),
            offset: self.offset,
            len: self.len,
        }
    }
}

/// A range inside a buffer, which it keeps mapped.
#[derive(Debug)]
pub(super) struct Memory {
    buffer: Buffer,
    offset: usize,
    len: usize,
}

impl Memory {
    /// Returns the range without its first bytes.
    fn span(&self, skip: u32) -> Span<'_> {
        let skip = self.len.min(skip as usize);
        Span {
            buffer: &self.buffer,
            offset: self.offset + skip,
            len: self.len - skip,
        }
    }
}

/// The place in a file at which a transfer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    At(u64),
    /// The file cannot seek.
    Stream,
}

/// The system call of an operation, with its parameters.
#[derive(Debug)]
pub(super) enum Task {
    Read {
        memory: Memory,
        place: Place,
        /// The bytes at the beginning that were read already.
        moved: u32,
    },
    Write {
        memory: Memory,
        place: Place,
        durable: bool,
    },
    Sync {
        data_only: bool,
    },
    Prefetch {
        offset: u64,
        len: u32,
    },
}

/// An operation with all that it needs. It keeps the file open and the memory mapped.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) file: Arc<OwnedFd>,
    pub(super) task: Task,
}

/// Reads what is in memory, without waiting for anything. Returns the number of bytes.
///
/// # Errors
/// - `EAGAIN` if nothing can be read without waiting.
/// - `EOPNOTSUPP` or `ENOSYS` if the file or the kernel has no such reads.
#[inline]
pub(super) fn read_cached(file: &OwnedFd, span: Span<'_>, place: Place) -> Result<u32, Errno> {
    transfer(Direction::Read, file, span, place, ReadWriteFlags::NOWAIT)
}

impl Job {
    /// Performs the operation, however long it takes. Returns the result as the kernel encodes it.
    pub(super) fn perform(&self) -> i32 {
        encode(match &self.task {
            Task::Read {
                memory,
                place,
                moved,
            } => self.read(memory, *place, *moved),
            Task::Write {
                memory,
                place,
                durable,
            } => self.write(memory, *place, *durable),
            Task::Sync { data_only: true } => fdatasync(&self.file).map(|()| 0),
            Task::Sync { data_only: false } => fsync(&self.file).map(|()| 0),
            // To the kernel a length of zero means all the rest of the file.
            Task::Prefetch { len: 0, .. } => Ok(0),
            Task::Prefetch { offset, len } => fadvise(
                &self.file,
                *offset,
                std::num::NonZeroU64::new(u64::from(*len)),
                Advice::WillNeed,
            )
            .map(|()| 0),
        })
    }

    /// Performs the transfer if it need not wait. Returns the result as the kernel encodes it.
    ///
    /// # Errors
    /// - `EAGAIN` if it would wait.
    /// - `EOPNOTSUPP` if the file has no such transfers.
    pub(super) fn perform_ready(&self) -> Result<i32, Errno> {
        let (direction, memory, place) = match &self.task {
            Task::Read { memory, place, .. } => (Direction::Read, memory, *place),
            Task::Write { memory, place, .. } => (Direction::Write, memory, *place),
            Task::Sync { .. } | Task::Prefetch { .. } => return Err(Errno::OPNOTSUPP),
        };
        match transfer(
            direction,
            &self.file,
            memory.span(0),
            place,
            ReadWriteFlags::NOWAIT,
        ) {
            Err(errno @ (Errno::AGAIN | Errno::OPNOTSUPP)) => Err(errno),
            Err(Errno::NOSYS) => Err(Errno::OPNOTSUPP),
            result => Ok(encode(result)),
        }
    }

    /// Returns whether the operation reads.
    pub(super) const fn is_read(&self) -> bool {
        matches!(self.task, Task::Read { .. })
    }

    /// Shortens a write to what a pipe or socket takes at once when it is ready.
    pub(super) fn shorten(&mut self) {
        if let Task::Write { memory, .. } = &mut self.task {
            memory.len = memory.len.min(libc::PIPE_BUF);
        }
    }

    fn read(&self, memory: &Memory, place: Place, moved: u32) -> Result<u32, Errno> {
        let span = memory.span(moved);
        let place = match place {
            // Checked when the operation was pushed.
            Place::At(offset) => Place::At(offset + u64::from(moved)),
            Place::Stream => Place::Stream,
        };
        match transfer(Direction::Read, &self.file, span, place, NO_FLAGS) {
            Ok(more) => Ok(moved + more),
            // An error after some bytes is a short count, as in pread(2).
            Err(_) if moved > 0 => Ok(moved),
            Err(errno) => Err(errno),
        }
    }

    fn write(&self, memory: &Memory, place: Place, durable: bool) -> Result<u32, Errno> {
        let span = memory.span(0);
        let flags = if durable {
            ReadWriteFlags::DSYNC
        } else {
            NO_FLAGS
        };
        match transfer(Direction::Write, &self.file, span, place, flags) {
            // Sandboxes that bring their own kernel may have no flags.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) if durable => {
                let count = transfer(Direction::Write, &self.file, span, place, NO_FLAGS)?;
                fdatasync(&self.file)?;
                Ok(count)
            }
            result => result,
        }
    }
}

/// The direction of a transfer.
#[derive(Debug, Clone, Copy)]
enum Direction {
    Read,
    Write,
}

/// Returns the system call of a transfer. One without flags takes an older call than `preadv2` or `pwritev2`: a sandbox that
/// brings its own kernel may lack these.
#[inline]
const fn call(direction: Direction, place: Place, flags: ReadWriteFlags) -> c_long {
    match (direction, place, flags.is_empty()) {
        (Direction::Read, _, false) => libc::SYS_preadv2,
        (Direction::Read, Place::At(_), true) => libc::SYS_preadv,
        (Direction::Read, Place::Stream, true) => libc::SYS_readv,
        (Direction::Write, _, false) => libc::SYS_pwritev2,
        (Direction::Write, Place::At(_), true) => libc::SYS_pwritev,
        (Direction::Write, Place::Stream, true) => libc::SYS_writev,
    }
}

/// Transfers bytes by one system call.
#[inline]
fn transfer(
    direction: Direction,
    file: &OwnedFd,
    span: Span<'_>,
    place: Place,
    flags: ReadWriteFlags,
) -> Result<u32, Errno> {
    // The kernel takes the offset in two halves of a `long` each. Of 64 bits, the upper half is
    // shifted out.
    let (low, high) = match place {
        Place::At(offset) => (offset as c_long, (offset >> 32) as c_long),
        Place::Stream => (-1, -1),
    };
    let iovec = libc::iovec {
        iov_base: span.buffer.as_ptr().wrapping_add(span.offset).cast(),
        iov_len: span.len,
    };
    let call = call(direction, place, flags);
    let fd = c_long::from(file.as_raw_fd());
    let (iovecs, count, flags) = (
        &raw const iovec,
        c_long::from(1),
        c_long::from(flags.bits() as libc::c_int),
    );
    // SAFETY: the calls of `call` take these parameters, or the first of them. The kernel reads one `iovec`, which lives through the call. The memory that it names is
    // inside a buffer, which the span borrows (`Span::new`, `Memory::span`, and `shorten`, which only
    // shortens it). The code of this process accesses that memory by atomic operations alone: see
    // `buffer`.
    let moved = unsafe { libc::syscall(call, fd, iovecs, count, low, high, flags) };
    u32::try_from(moved).map_err(|_| last_errno())
}

#[cold]
fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Encodes a result as the kernel does: a count, or a negated errno.
pub(super) fn encode(result: Result<u32, Errno>) -> i32 {
    match result {
        // At most `MAX_RW`.
        Ok(count) => count as i32,
        Err(errno) => -errno.raw_os_error(),
    }
}
