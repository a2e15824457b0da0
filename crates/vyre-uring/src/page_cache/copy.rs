//! The copy from a mapping to a buffer.
#![expect(unsafe_code, reason = "copies to memory that a device shares")]

use std::ops::Range;
use std::ptr::NonNull;

use vyre_mapped::Recovery;

use super::PREFETCH_BYTES;
use crate::buffer::Buffer;
use crate::cached_file::CachedFile;

/// The number of bytes that are copied at once. The processor does not look ahead beyond a page, so the
/// next one is prefetched meanwhile.
const PART_BYTES: u64 = 4096;

/// Copies a range of a file to an offset of a buffer. Returns whether all of it was copied: not if a
/// range is outside, or if an access raised SIGBUS.
#[inline]
pub(super) fn to_buffer(
    cached: &CachedFile,
    recovery: &Recovery,
    range: &Range<u64>,
    buffer: &Buffer,
    buffer_offset: u64,
) -> bool {
    let len = range.end.saturating_sub(range.start);
    match buffer_offset.checked_add(len) {
        Some(end) if end <= buffer.len() as u64 => {}
        _ => return false,
    }
    // In range, so it fits the address space.
    let address = buffer.as_ptr().wrapping_add(buffer_offset as usize);
    let Some(destination) = NonNull::new(address) else {
        return false;
    };
    let mapping = cached.residency().mapping();
    let mut part = range.start..range.start;
    let mut destination = destination;
    while part.end < range.end {
        part = part.end..range.end.min(part.end + PART_BYTES);
        if part.end < range.end {
            mapping.prefetch(part.end..range.end.min(part.end + u64::from(PREFETCH_BYTES)));
        }
        let part = part.clone();
        let bytes = part.end - part.start;
        // SAFETY: the range was just seen to be inside the buffer, which is borrowed, so its memory is
        // valid, and the part is inside the range. The code of this process accesses the memory by
        // atomic operations alone: see `buffer`.
        if unsafe { mapping.copy_to_ptr(recovery, part, destination) }.is_err() {
            return false;
        }
        // SAFETY: still inside the buffer, or at its end.
        destination = unsafe { destination.add(bytes as usize) };
    }
    true
}
