//! Counts of the reads of files with a mapping.

/// Counts of the reads of files that have a [`CachedFile`](crate::CachedFile), since the transport was
/// made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageCacheCounters {
    /// Reads that were copied out of the page cache.
    pub copied: u64,
    /// The bytes of these reads.
    pub bytes: u64,
    /// Reads that went to the inner transport at once: not in memory, too long, or past the end.
    pub passed_on: u64,
    /// Reads that were queued, and then went to the inner transport since the file had become shorter.
    pub past_end: u64,
    /// Reads whose copy raised SIGBUS, and that then went to the inner transport.
    pub faulted: u64,
}
