//! The errors of this crate.
//!
//! Where the text of an error includes its cause, the cause is a field and not the `source()`: a
//! report that prints the whole chain would print the cause twice.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use vyre_ioq::{AttachError, Errno, LoopState};
use vyre_uring::{BufferError, RegisterError, SetupError};

use crate::queue_id::QueueId;

/// Reason that a table of files or buffers was not changed, or that a change did not have its full
/// effect.
///
/// Building a table yields the variants down to [`PageCache`](Self::PageCache). Changing the tables of
/// an engine or of a running loop yields any of them. A [`LoopGroup`](crate::LoopGroup) wraps the
/// error of one loop in [`Loop`](Self::Loop).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The rights include READ, and the descriptor is not open for reading.
    #[error("the file is not open for reading; open it for reading, or leave out Rights::READ")]
    NotReadable,
    /// The rights include WRITE, and the descriptor is not open for writing.
    #[error("the file is not open for writing; open it for writing, or leave out Rights::WRITE")]
    NotWritable,
    /// The rights include WRITE, and the descriptor is open with O_APPEND, so that the kernel would
    /// ignore the offsets of writes.
    #[error("the file is open for appending, where offsets mean nothing; open it without O_APPEND")]
    Appending,
    /// The descriptor is open with O_PATH, and can neither read, write nor sync the file.
    #[error("the descriptor names a file and does not open it; open it without O_PATH")]
    PathOnly,
    /// The rights include READ, and the file is a directory, which can only be synced.
    #[error("a directory has no bytes to read; open a file in it, or ask for Rights::SYNC alone")]
    Directory,
    /// The range is reversed, or ends past the largest file or past the buffer.
    #[error("range {}..{} is not within 0..{end}", .range.start, .range.end)]
    BadRange {
        /// Bytes asked for.
        range: Range<u64>,
        /// End of the bytes that exist.
        end: u64,
    },
    /// The pages have no bytes, or the buffer is smaller than one page.
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
    /// The kernel did not report what the descriptor refers to.
    #[error("the descriptor cannot be examined: {0}")]
    Examine(std::io::Error),
    /// The file was to be read out of the page cache, and cannot be.
    #[error(
        "the file cannot be read out of the page cache: {0}; insert it without page_cache_reads"
    )]
    PageCache(vyre_mapped::MapError),
    /// The transport has no free slot for another file or buffer.
    #[error(
        "the loop has no room for another {what}: revoke one, or build the loop with more \
         LoopOptions::live_entries() (the ring of an engine of your own with more .{what}s())"
    )]
    NoRoom {
        /// Kind of entry: "file" or "buffer".
        what: &'static str,
    },
    /// The transport refused the file or the buffer.
    #[error("the transport refused the entry: {0}")]
    Register(RegisterError),
    /// The handle was never given out, or it was revoked already.
    #[error("handle {handle:#x} names nothing; it may have been revoked already")]
    Unknown {
        /// The handle.
        handle: u32,
    },
    /// The handle is revoked and unknown to devices. Requests on it were cancelled, and the kernel
    /// did not give all of them back in time. The entry is reclaimed when the last of them ends.
    #[error(
        "handle {handle:#x} is revoked, but the kernel still holds {requests} requests on it: do not \
         use its memory for anything else yet"
    )]
    InFlight {
        /// Handle that was revoked.
        handle: u32,
        /// Number of requests in flight.
        requests: u32,
    },
    /// The loop's thread did not answer in time. It is in a system call that does not return, as
    /// when a file system hangs. A revoked handle becomes unknown to devices when the call returns.
    #[error(
        "the loop's thread did not answer within {waited:?}: a file of it may hang; the handle is \
         revoked when the kernel lets the thread go"
    )]
    Unresponsive {
        /// Time that the caller waited for the thread.
        waited: Duration,
    },
    /// The loop has ended, and the kernel still holds operations of it. One of them may be on the
    /// entry, and may yet write to its memory.
    #[error(
        "the loop has ended while the kernel held {operations} operations, perhaps on this entry: do \
         not use its memory for anything else"
    )]
    Held {
        /// Number of operations that the kernel kept.
        operations: u32,
    },
    /// The loop, or every loop of the group, has ended and holds nothing.
    #[error("no loop runs any more; `stop` says why")]
    Ended,
    /// The change failed in one loop of a group. An insertion that failed has left no entry in any
    /// loop. A revocation took effect in the other loops.
    #[error("loop {index}: {reason}")]
    Loop {
        /// Number of the loop; the first, if the change failed in several.
        index: usize,
        /// Reason that it failed there.
        reason: Box<TableError>,
    },
}

impl TableError {
    /// Wraps an error of one loop of a group.
    pub(crate) fn in_loop(self, index: usize) -> Self {
        let reason = Box::new(self);
        Self::Loop { index, reason }
    }
}

impl From<std::io::Error> for TableError {
    fn from(error: std::io::Error) -> Self {
        Self::Examine(error)
    }
}

impl From<RegisterError> for TableError {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::UnknownFile(_) => Self::NoRoom { what: "file" },
            RegisterError::UnknownBuffer(_) => Self::NoRoom { what: "buffer" },
            error => Self::Register(error),
        }
    }
}

#[cfg(test)]
impl PartialEq for TableError {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

/// Reason that a queue was not added to a running loop, or that its removal did not end in order. Devices of a queue that
/// was not added see FAILED.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// There is no such queue: it was never added, it was removed already, or another thread is removing it.
    #[error("queue {queue} is not served; it may have been removed already")]
    Unknown {
        /// Number of the queue.
        queue: QueueId,
    },
    /// The group has no such loop.
    #[error("the queue is for loop {index}, and there are {loops} loops, numbered from 0")]
    NoSuchLoop {
        /// Number of the loop that the queue was for.
        index: usize,
        /// Number of loops in the group.
        loops: usize,
    },
    /// The loop serves as many queues as its transport has entries for, two each. Removed queues whose operations the
    /// kernel holds count, too.
    #[error(
        "the loop serves {most} queues, as many as it can: remove one, or build the loop with more \
         LoopOptions::ring_entries(), two for each queue"
    )]
    Full {
        /// Largest number of queues.
        most: u32,
    },
    /// The queue's memory is that of a queue that is served, or overlaps it.
    #[error("the memory of the queue is in use by queue {queue}: give each queue its own")]
    Overlaps {
        /// Number of the queue that is served there.
        queue: QueueId,
    },
    /// The host end has served requests elsewhere and owes them outcomes.
    #[error("the host end owes {requests} requests an outcome: complete them before it is added")]
    Claimed {
        /// Number of requests.
        requests: u32,
    },
    /// The host end has ended, and its devices know.
    #[error("the host end is {state:?}, and its devices do not wait for it: make a new one")]
    Gone {
        /// State that devices see.
        state: LoopState,
    },
    /// The queue is removed, and its memory is not used any more. Its requests were cancelled, and the kernel did not
    /// give all of them back in time. These have no outcome, and devices see FAILED. The files and buffers that they
    /// name stay in use until the kernel gives them back.
    #[error(
        "queue {queue} is removed, but the kernel still holds {requests} requests of it: do not use \
         their buffers for anything else yet"
    )]
    InFlight {
        /// Number of the queue.
        queue: QueueId,
        /// Number of requests in flight.
        requests: u32,
    },
    /// The loop's thread did not answer in time. It is in a system call that does not return, as when a file system
    /// hangs. The queue is removed when the call returns. Until then, its memory stays in use.
    #[error(
        "the loop's thread did not answer within {waited:?}: a file of it may hang; the queue's \
         memory stays in use until the kernel lets the thread go"
    )]
    Unresponsive {
        /// Time that the caller waited for the thread.
        waited: Duration,
    },
    /// The loop has ended while the kernel held operations, perhaps of this queue.
    #[error(
        "the loop has ended while the kernel held {operations} operations, perhaps of this queue: do \
         not use its buffers for anything else"
    )]
    Held {
        /// Number of operations that the kernel kept.
        operations: u32,
    },
    /// The loop has ended, or no loop of the group runs. Its queues stay its own until it is dropped.
    #[error("no loop runs any more; `stop` says why")]
    Ended,
}

/// Reason that a loop did not start. Devices of its queues see FAILED.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// A queue cannot be served.
    #[error("queue {queue} cannot be served: {reason}")]
    Queue {
        /// Number of the queue.
        queue: QueueId,
        /// Reason that it cannot.
        reason: QueueError,
    },
    /// The name for the thread contains a NUL byte.
    #[error("{name:?} is no name for the loop's thread: give one without NUL bytes")]
    Name {
        /// Name that was asked for.
        name: String,
    },
    /// The operating system did not create the thread.
    #[error("no thread for the loop: {0}")]
    Thread(std::io::Error),
    /// The thread could not block signals, with which a device could end the process.
    #[error(
        "the loop's thread cannot block signals: {0}; allow rt_sigprocmask in the seccomp filter"
    )]
    Signals(std::io::Error),
    /// The thread could not be bound to the chosen core.
    #[error("the loop cannot be pinned to core {core}: {reason}; choose a core of this process")]
    Pin {
        /// Core that was asked for.
        core: usize,
        /// Error of the operating system.
        reason: std::io::Error,
    },
    /// The ring could not be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The ring refused a file or a buffer of the tables.
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

/// Reason that a loop did not shut down as it should. The loop serves nothing any more, unless the
/// variant says otherwise.
///
/// If the kernel still holds operations, it may yet write to their buffers. That memory is leaked on
/// purpose, and the requests get no outcome.
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
    /// The ring became unusable. Requests got that errno or ECANCELED, unless the kernel holds
    /// them.
    #[error("the ring failed: {errno}{}", also(.kept))]
    Ring {
        /// Errno that the kernel gave.
        errno: Errno,
        /// Number of operations that the kernel still holds. If the transport panicked while the loop
        /// ended, their number is unknown, and this is the number of requests without an outcome.
        kept: u32,
    },
    /// The loop's thread panicked: in a transport given to `spawn_with`, or by a bug in this crate.
    /// Requests got an outcome, unless the kernel holds them.
    #[error("the loop's thread panicked: {message}{}", also(.kept))]
    Panicked {
        /// Message of the panic.
        message: String,
        /// Number of operations that the kernel still holds. If the transport panicked while the loop
        /// ended, their number is unknown, and this is the number of requests without an outcome.
        kept: u32,
    },
    /// The loop's thread did not answer in time. It is in a system call that does not return, as
    /// when a file system hangs. The thread keeps using its files, buffers and queues, which nothing
    /// frees, and ends when the call returns. Until then devices see no heartbeat.
    #[error(
        "the loop's thread did not answer within {waited:?}: a file of it may hang; its buffers stay \
         in use until the kernel lets the thread go"
    )]
    Unresponsive {
        /// Time that the caller waited for the thread.
        waited: Duration,
    },
    /// The process is a fork of the one that the loop runs in. Nothing was done to the loop.
    #[error("the loop runs in the process that this one was forked from: stop it there")]
    Forked,
}

/// Returns the part of an error's text about operations that the kernel holds.
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

/// Reason that a group did not start. Loops that had started were stopped again: devices of their
/// queues see STOPPED, and all others see FAILED.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroupSpawnError {
    /// The builder was asked for no loop.
    #[error("a group needs at least one loop: ask for it with `loops` or `pin_to`")]
    NoLoop,
    /// A queue was given to a loop that does not exist.
    #[error("queue {queue} is for loop {index}, and the last of {loops} loops is number {}", .loops - 1)]
    NoSuchLoop {
        /// Number of the queue, in the order in which they were given to the builder.
        queue: usize,
        /// Number of the loop that the queue was given to.
        index: usize,
        /// Number of loops in the group.
        loops: usize,
    },
    /// A loop did not start.
    #[error("loop {index} did not start: {reason}")]
    Loop {
        /// Number of the loop.
        index: usize,
        /// Reason that it did not start.
        reason: SpawnError,
    },
}

/// The loops of a group that did not shut down as they should. Each loop has ended all the same,
/// unless its error says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStopError {
    failures: Vec<(usize, StopError)>,
    loops: usize,
}

impl GroupStopError {
    /// Returns an error if any of the `loops` loops failed.
    pub(crate) fn of(failures: Vec<(usize, StopError)>, loops: usize) -> Result<(), Self> {
        match failures.is_empty() {
            true => Ok(()),
            false => Err(Self { failures, loops }),
        }
    }

    /// Returns the loops that failed, by number in ascending order, each with its error. There is
    /// at least one.
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

// The text includes each failure, so none is the `source()` as well.
impl std::error::Error for GroupStopError {}

/// Reason that a queue for another process could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SharedQueueError {
    /// The layout is invalid.
    #[error(transparent)]
    Layout(#[from] AttachError),
    /// The kernel did not provide the memory.
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
