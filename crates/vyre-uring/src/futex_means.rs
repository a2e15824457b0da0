//! The means by which words in memory end waits.

use std::fmt;

/// The means by which a transport notices that somebody wakes the futex in a word of
/// [`Transport::set_futexes`](crate::Transport::set_futexes). It is the best that the kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FutexMeans {
    /// The ring waits on the words by its operation `FUTEX_WAIT` (Linux 6.7).
    Ring,
    /// The thread that waits calls `futex_waitv(2)` on the words (Linux 5.16). A pool of threads does so, for up to 127
    /// words.
    Vector,
    /// So many relays wait on the words and wake the transport: threads that do nothing else. A wait takes a few
    /// microseconds more to end.
    Relays(u32),
    /// Nothing does: waits on the words last a millisecond at most.
    Nothing,
}

impl fmt::Display for FutexMeans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring => f.write_str("FUTEX_WAIT in the ring"),
            Self::Vector => f.write_str("futex_waitv"),
            Self::Relays(1) => f.write_str("a relay thread"),
            Self::Relays(count) => write!(f, "{count} relay threads"),
            Self::Nothing => f.write_str("nothing"),
        }
    }
}

impl FutexMeans {
    /// Writes the line of a report, once it is known.
    pub(crate) fn fmt_line(means: Option<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        means.map_or(Ok(()), |means| write!(f, "\nfutexes noticed by: {means}"))
    }
}
