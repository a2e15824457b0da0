//! A file of the table of a transport that copies.

use std::ops::Range;
use std::sync::Arc;

use crate::cached_file::CachedFile;

/// The number of reads past the known end of a file after which its size is asked for again.
pub(super) const ASK_SIZE_EVERY: u32 = 64;

/// A file of the table.
#[derive(Debug)]
pub(super) struct FileState {
    cached: Arc<CachedFile>,
    /// The size that the kernel gave last.
    size: u64,
    /// The submission in which it did.
    asked: u64,
    /// The number of reads past `size`.
    past_end: u32,
}

impl FileState {
    pub(super) fn new(cached: Arc<CachedFile>) -> Self {
        Self {
            cached,
            // The first copy asks.
            size: u64::MAX,
            asked: 0,
            past_end: 0,
        }
    }

    pub(super) fn cached(&self) -> &CachedFile {
        &self.cached
    }

    /// Returns whether a range probably can be copied.
    #[inline]
    pub(super) fn may_copy(&mut self, range: Range<u64>) -> bool {
        if range.end > self.size {
            self.past_end = self.past_end.wrapping_add(1);
            if !self.past_end.is_multiple_of(ASK_SIZE_EVERY) {
                return false;
            }
        }
        self.cached.residency().contains(range)
    }

    /// Returns whether a range can be copied, as far as is known without asking for the size again.
    #[inline]
    pub(super) fn holds(&self, range: Range<u64>) -> bool {
        range.end <= self.size && self.cached.residency().contains(range)
    }

    /// Returns the size of the file, which each submission asks for once. Returns 0 if the kernel does
    /// not tell.
    #[inline]
    pub(super) fn size_at(&mut self, submission: u64) -> u64 {
        if self.asked != submission {
            self.asked = submission;
            self.size = self.cached.size().unwrap_or(0);
        }
        self.size
    }
}
