//! The numbers of queues.

use std::fmt;

/// The number of a queue of a loop or a group.
///
/// The queues that were given to a builder are numbered from 0, in that order. Queues that are added later get the
/// numbers that follow. No number is used twice, so the number of a removed queue never names another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(u64);

impl QueueId {
    /// Returns the queue with a number, as [`raw`](Self::raw) returned it.
    pub const fn from_raw(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn raw(self) -> u64 {
        self.0
    }
}

impl From<usize> for QueueId {
    fn from(number: usize) -> Self {
        Self(number as u64)
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
