//! Errors of the crate. Where an error's text names its cause, the cause is a field and not the
//! `source()`: reports that print the whole chain would say it twice.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use vyre_ioq::{AttachError, Errno};
use vyre_uring::{BufferError, RegisterError, SetupError};

/// Why an entry cannot be added to a table.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// READ was asked for, and the descriptor cannot be read from.
    #[error("the file is not open for reading; open it so, or leave out Rights::READ")]
    NotReadable,
    /// WRITE was asked for, and the descriptor cannot be written to.
    #[error("the file is not open for writing; open it so, or leave out Rights::WRITE")]
    NotWritable,
    /// WRITE was asked for on an O_APPEND descriptor, whose writes ignore their offset.
    #[error("the file is open for appending, where offsets mean nothing; open it without O_APPEND")]
    Appending,
    /// An O_PATH descriptor, which says where a file is and can neither read, write nor sync it.
    #[error("the descriptor names a file and does not open it; open it without O_PATH")]
    PathOnly,
    /// READ was asked for on a directory, which can only be synced.
    #[error("a directory has no bytes to read; open a file in it, or ask for Rights::SYNC alone")]
    Directory,
    /// The range is reversed, or ends past the largest file or past the buffer.
    #[error("range {}..{} is not within 0..{end}", .range.start, .range.end)]
    BadRange {
        /// Bytes asked for.
        range: Range<u64>,
        /// End of what there is.
        end: u64,
    },
    /// Pages of no bytes, or a buffer that holds none.
    #[error("a buffer of {len} bytes has no pages of {page} bytes")]
    BadPage {
        /// Bytes of a page.
        page: u64,
        /// Bytes of the buffer.
        len: u64,
    },
    /// The chosen handle is in use.
    #[error("handle {handle:#x} is in use; revoke it first")]
    Taken {
        /// The handle.
        handle: u32,
    },
    /// Every handle is in use.
    #[error("the table is full: 1,048,575 entries; revoke some")]
    Full,
    /// The kernel would not say what the descriptor is.
    #[error("the descriptor cannot be examined: {0}")]
    Examine(std::io::Error),
}

impl From<std::io::Error> for TableError {
    fn from(error: std::io::Error) -> Self {
        Self::Examine(error)
    }
}

#[cfg(test)]
impl PartialEq for TableError {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

/// Why a table was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The entry is unfit.
    #[error(transparent)]
    Table(#[from] TableError),
    /// All of the transport's places are taken.
    #[error(
        "the loop has no place left for another {what}: revoke one, or build the loop with more \
         .live_entries() (the ring of an engine of your own with more .{what}s())"
    )]
    NoPlace {
        /// Kind of entry: "file" or "buffer".
        what: &'static str,
    },
    /// The transport refused the file or the buffer.
    #[error("the transport refused the entry: {0}")]
    Register(RegisterError),
    /// Requests were in flight on the entry, were cancelled, and the kernel did not give them back in
    /// time. The handle is revoked, and unknown to devices; the loop lets go of the entry when the last
    /// of them ends.
    #[error(
        "handle {handle:#x} is revoked, but the kernel still holds {requests} requests on it: do not use \
         its memory for anything else yet"
    )]
    InFlight {
        /// Handle that was revoked.
        handle: u32,
        /// Number of requests in flight.
        requests: u32,
    },
    /// No such handle, or it was revoked already.
    #[error("handle {handle:#x} names nothing; it may have been revoked already")]
    Unknown {
        /// The handle.
        handle: u32,
    },
}

impl From<RegisterError> for ChangeError {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::UnknownFile(_) => Self::NoPlace { what: "file" },
            RegisterError::UnknownBuffer(_) => Self::NoPlace { what: "buffer" },
            error => Self::Register(error),
        }
    }
}

/// Reason that a loop did not start. Devices of its queues see FAILED.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// There is no queue to serve.
    #[error("a loop needs at least one queue: give it one with `queue`")]
    NoQueue,
    /// The name for the thread holds a NUL byte.
    #[error("{name:?} is no name for the loop's thread: give one without NUL bytes")]
    Name {
        /// Name that was asked for.
        name: String,
    },
    /// The operating system gave no thread.
    #[error("no thread for the loop: {0}")]
    Thread(std::io::Error),
    /// The thread could not block signals, by which a device could end the process.
    #[error(
        "the loop's thread cannot block signals: {0}; allow rt_sigprocmask in the seccomp filter"
    )]
    Signals(std::io::Error),
    /// The thread could not be bound to the core asked for.
    #[error("the loop cannot be pinned to core {core}: {reason}; choose one of this process's")]
    Pin {
        /// Core that was asked for.
        core: usize,
        /// Error of the operating system.
        reason: std::io::Error,
    },
    /// The ring could not be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A file or a buffer of the tables was refused.
    #[error("an entry of the tables was refused: {0}")]
    Register(RegisterError),
    /// The thread panicked before it served: in the closure given to `spawn_with`, or by a bug in
    /// this crate.
    #[error("the loop's thread panicked while it started: {message}")]
    Died {
        /// Message of the panic.
        message: String,
    },
}

impl From<RegisterError> for SpawnError {
    fn from(error: RegisterError) -> Self {
        Self::Register(error)
    }
}

/// Reason that a loop did not end as it should. Nothing is served any more, unless the variant says
/// otherwise.
///
/// If the kernel still holds operations, it may yet write to their buffers. That memory is leaked on
/// purpose, and their requests have no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// The kernel did not give operations back in time.
    #[error(
        "the kernel still holds {operations} operations; their buffers were leaked, since it may \
         write to them yet"
    )]
    Stuck {
        /// Number of operations.
        operations: u32,
    },
    /// The ring became unusable. Requests were answered with that errno or ECANCELED, unless the
    /// kernel holds them.
    #[error("the ring failed: {errno}{}", also(.kept))]
    Ring {
        /// Errno that the kernel gave.
        errno: Errno,
        /// Number of operations that the kernel still holds.
        kept: u32,
    },
    /// The loop's thread panicked: in a transport given to `spawn_with`, or by a bug in this crate.
    /// Requests were answered, unless the kernel holds them.
    #[error("the loop's thread panicked: {message}{}", also(.kept))]
    Panicked {
        /// Message of the panic.
        message: String,
        /// Number of operations that the kernel still holds.
        kept: u32,
    },
    /// The loop's thread did not answer in time: it is in a system call that does not return, as
    /// when a file system hangs. It goes on to use its files, buffers and queues, which nothing
    /// frees, and ends when the call returns. Until then devices see no heartbeat; after it, they
    /// see the end.
    #[error(
        "the loop's thread did not answer within {waited:?}: a file of it may hang; its buffers stay \
         in use until the kernel lets it go"
    )]
    Unresponsive {
        /// Time that the thread was waited for.
        waited: Duration,
    },
    /// The process is a fork of the one that the loop runs in. Nothing was done to the loop.
    #[error("the loop runs in the process that this one was forked from: stop it there")]
    Forked,
}

/// Returns what a text adds if the kernel holds operations as well.
fn also(kept: &u32) -> String {
    match kept {
        0 => String::new(),
        kept => format!(
            "; the kernel still holds {kept} operations, whose buffers were leaked, since it may \
             write to them yet"
        ),
    }
}

impl StopError {
    /// Returns the number of operations that the kernel still held when the loop ended, as far as
    /// it is known.
    pub const fn kept(&self) -> u32 {
        match *self {
            Self::Stuck { operations } => operations,
            Self::Ring { kept, .. } | Self::Panicked { kept, .. } => kept,
            Self::Unresponsive { .. } | Self::Forked => 0,
        }
    }
}

/// Reason that a change of a loop's tables failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// The loop has ended, and released everything.
    #[error("the loop has ended")]
    Ended,
    /// The loop has ended, but the kernel holds operations of it: one of them may be on the entry,
    /// and may yet write to memory that a request named.
    #[error(
        "the loop has ended while the kernel held {operations} operations, perhaps on this entry: do \
         not use its memory for anything else"
    )]
    Held {
        /// Number of operations that the kernel kept.
        operations: u32,
    },
    /// The loop's thread did not answer in time: it is in a system call that does not return, as
    /// when a file system hangs. The handle becomes unknown when the call returns.
    #[error(
        "the loop's thread did not answer within {waited:?}: a file of it may hang; the handle is revoked \
         when the kernel lets it go"
    )]
    Unresponsive {
        /// Time that the thread was waited for.
        waited: Duration,
    },
    /// The loop refused.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// Why a group did not start. Loops of it that had started were stopped again: devices of their
/// queues see STOPPED, all others see FAILED.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroupSpawnError {
    /// There is no loop.
    #[error("a group needs at least one loop: ask for it with `loops` or `pin_to`")]
    NoLoop,
    /// A queue was given to a loop that does not exist.
    #[error("queue {queue} is for loop {index}, and the last of {loops} loops is number {}", .loops - 1)]
    NoSuchLoop {
        /// The queue, by the order in which they were given to the builder.
        queue: usize,
        /// The loop that it was given to.
        index: usize,
        /// How many loops there are to be.
        loops: usize,
    },
    /// A loop did not start.
    #[error("loop {index} did not start: {reason}")]
    Loop {
        /// Its number.
        index: usize,
        /// Why not.
        reason: SpawnError,
    },
}

/// Why the tables of a group were not changed, or not with the effect that was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroupChangeError {
    /// The entry is unfit. No loop was asked.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A loop refused the entry, so that none has it.
    #[error("loop {index} refused the entry, so that no loop has it: {reason}")]
    Refused {
        /// The loop's number; the first, if several refused.
        index: usize,
        /// Why it refused.
        reason: ChangeError,
    },
    /// No such handle, or it was revoked already.
    #[error("handle {handle:#x} names nothing; it may have been revoked already")]
    Unknown {
        /// The handle.
        handle: u32,
    },
    /// The handle is revoked, and unknown to all devices. But requests were in flight on it, were
    /// cancelled, and the kernel did not give them back in time. The loop lets go of the entry when
    /// the last of them ends.
    #[error(
        "handle {handle:#x} is revoked, but the kernel still holds {requests} requests of loop {index} \
         on it: do not use its memory for anything else yet"
    )]
    InFlight {
        /// Number of the loop; of the first, if there are several.
        index: usize,
        /// Handle that was revoked.
        handle: u32,
        /// Number of requests of that loop in flight.
        requests: u32,
    },
    /// A loop's thread did not answer in time: it is in a system call that does not return, as when a file
    /// system hangs. The handle becomes unknown there when the call returns.
    #[error(
        "loop {index} did not answer within {waited:?}: a file of it may hang; the handle is revoked there \
         when the kernel lets its thread go"
    )]
    Unresponsive {
        /// Number of the loop; of the first, if there are several.
        index: usize,
        /// Time that it was waited for.
        waited: Duration,
    },
    /// The handle is revoked. But a loop that had the entry ended by itself, and the kernel did not
    /// give all of its operations back: one of them may be on this entry, and may yet write to
    /// memory that a request named.
    #[error(
        "the handle is revoked, but loop {index} ended while the kernel held {operations} operations, \
         perhaps on it: do not use its memory for anything else"
    )]
    Held {
        /// The loop's number; the first, if there are several.
        index: usize,
        /// How many operations the kernel kept.
        operations: u32,
    },
    /// Every loop has ended.
    #[error("every loop of the group has ended; `stop` says why")]
    Ended,
}

/// Loops of a group that did not end as they should. Each loop has ended all the same, unless its
/// error says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStopError {
    failures: Vec<(usize, StopError)>,
    loops: usize,
}

impl GroupStopError {
    /// An error, if there is any failure of so many loops.
    pub(crate) fn of(failures: Vec<(usize, StopError)>, loops: usize) -> Result<(), Self> {
        match failures.is_empty() {
            true => Ok(()),
            false => Err(Self { failures, loops }),
        }
    }

    /// The loops by number, in ascending order, each with its error. There is at least one.
    pub fn failures(&self) -> &[(usize, StopError)] {
        &self.failures
    }
}

impl fmt::Display for GroupStopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (failed, loops) = (self.failures.len(), self.loops);
        write!(f, "{failed} of {loops} loops did not end well")?;
        let mut before = ": ";
        for (index, error) in &self.failures {
            write!(f, "{before}loop {index}: {error}")?;
            before = "; ";
        }
        Ok(())
    }
}

// The text names each failure, so none is the `source()` as well.
impl std::error::Error for GroupStopError {}

/// Why a queue for another process could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SharedQueueError {
    /// There is no such layout.
    #[error(transparent)]
    Layout(#[from] AttachError),
    /// The kernel gave no memory for it.
    #[error("no memory for the queue: {0}")]
    Memory(BufferError),
}

impl From<BufferError> for SharedQueueError {
    fn from(error: BufferError) -> Self {
        Self::Memory(error)
    }
}

/// Returns the message of a panic.
pub(crate) fn message_of(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}
