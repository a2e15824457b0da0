//! What may go wrong with several loops.

use std::fmt;
use std::time::Duration;

use crate::engine::ChangeError;
use crate::ioloop::{SpawnError, StopError};
use crate::tables::TableError;

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
    pub(super) fn of(failures: Vec<(usize, StopError)>, loops: usize) -> Result<(), Self> {
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
