//! Errors of loops that did not start, change or end as asked. Where an error's text names its
//! cause, the cause is a field and not the `source()`: reports that print the whole chain would say
//! it twice.

use std::any::Any;
use std::time::Duration;

use vyre_ioq::Errno;
use vyre_uring::{RegisterError, SetupError};

use crate::engine::ChangeError;

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

/// Returns the message of a panic.
pub(super) fn message_of(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}
