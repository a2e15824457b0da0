//! Conversion of a caller's ranges to byte positions.

use std::ops::{Bound, Range, RangeBounds};

use vyre_uring::Buffer;

/// One past the last byte of the largest file: kernel offsets are signed.
pub(crate) const MAX_FILE: u64 = i64::MAX as u64;

/// Returns the bytes of a range of a file. A range without an end, or with the end `u64::MAX`, covers
/// the rest of the file.
pub(crate) fn file_range(range: impl RangeBounds<u64>) -> Range<u64> {
    let Range { start, end } = bytes(range, u64::MAX);
    let end = if end == u64::MAX { MAX_FILE } else { end };
    start..end
}

/// Returns the bytes of a range of a buffer. A range without an end extends to the end of the
/// buffer.
pub(crate) fn buffer_range(range: impl RangeBounds<u64>, buffer: &Buffer) -> Range<u64> {
    bytes(range, buffer.len() as u64)
}

fn bytes(range: impl RangeBounds<u64>, end: u64) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&last) => last.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => end,
    };
    start..end
}
