//! Reads that are copied before the caller does anything else, so that nothing records them as in flight.

use vyre_mapped::Hint;

use super::queued::Read;
use super::{LOOK_AHEAD, PREFETCH_BYTES, PageCacheTransport, SHORT_BYTES};
use crate::transport::{MAX_BUNDLE, Transport};

/// A read that the next call copies, and where its bytes are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bundled {
    read: Read,
    hint: Hint,
}

impl<T: Transport> PageCacheTransport<T> {
    /// Bundles a read. Returns `false` if it is long, or probably cannot be copied.
    ///
    /// Nothing is counted here: what is not bundled is pushed, and counted there.
    #[inline(always)]
    pub(super) fn bundle_read(&mut self, read: Read) -> bool {
        if self.recovery.is_none() || read.len > SHORT_BYTES || self.bundle.len() >= MAX_BUNDLE {
            return false;
        }
        let Some(Some(file)) = self.files.get(read.file.index() as usize) else {
            return false;
        };
        let Some(Some(buffer)) = self.buffers.get(read.buffer.index() as usize) else {
            return false;
        };
        let len = u64::from(read.len);
        let buffer_end = read.buffer_offset.checked_add(len);
        let end = read.offset.checked_add(len);
        let (Some(buffer_end), Some(end)) = (buffer_end, end) else {
            return false;
        };
        if read.len == 0 || buffer_end > buffer.len() as u64 || !file.holds(read.offset..end) {
            return false;
        }
        let hint = file.cached().residency().mapping().hint(read.offset);
        match self.bundle.len() {
            0 => hint.prefetch(read.len.min(PREFETCH_BYTES) as usize),
            1..LOOK_AHEAD => hint.prefetch(1),
            // The copies before it do that.
            _ => {}
        }
        self.bundle.push(Bundled { read, hint });
        true
    }

    /// Copies the bundled reads. Returns the set of those that were not copied.
    #[inline]
    pub(super) fn copy_all_bundled(&mut self) -> u64 {
        if self.bundle.is_empty() {
            return 0;
        }
        self.begin_copies();
        // A longer read is then copied alone, as after queued short reads.
        self.long_is_next = true;
        let mut failed = 0;
        for nth in 0..self.bundle.len() {
            if let Some(Bundled { read, hint }) = self.bundle.get(nth + 1) {
                hint.prefetch(read.len.min(PREFETCH_BYTES) as usize);
            }
            if let Some(later) = self.bundle.get(nth + LOOK_AHEAD) {
                later.hint.prefetch(1);
            }
            let read = self.bundle[nth].read;
            failed |= u64::from(self.copy(&read).is_err()) << nth;
        }
        self.bundle.clear();
        failed
    }
}
