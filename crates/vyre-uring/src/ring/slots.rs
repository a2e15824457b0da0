//! The file slots and buffer slots of a ring.

use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Arc;

use io_uring::squeue::Flags;
use rustix::fs::{OFlags, fcntl_getfl};

use crate::buffer::Buffer;
use crate::file_traits::FileTraits;

/// The largest number of bytes in one entry of the kernel's buffer table, as a power of two: 1 GiB.
/// A longer buffer is registered in pieces of this size.
pub(super) const PIECE_SHIFT: u32 = 30;

/// A slot of the file table.
#[derive(Debug)]
pub(super) struct FileSlotState {
    file: Option<Arc<OwnedFd>>,
    /// The descriptor, or -1.
    raw: RawFd,
    /// The flags of each operation on the file except writes.
    pub(super) flags: Flags,
    /// The flags of a plain write and of a durable one.
    write_flags: [Flags; 2],
    has_offsets: bool,
}

impl FileSlotState {
    pub(super) const EMPTY: Self = Self {
        file: None,
        raw: -1,
        flags: Flags::empty(),
        write_flags: [Flags::empty(); 2],
        has_offsets: false,
    };

    /// Returns the descriptor, if the slot holds a file. It is open for as long as the file stays in
    /// the slot.
    #[inline]
    pub(super) fn descriptor(&self) -> Option<RawFd> {
        (self.raw >= 0).then_some(self.raw)
    }

    pub(super) fn set(&mut self, file: Arc<OwnedFd>, traits: FileTraits) {
        self.raw = file.as_raw_fd();
        self.has_offsets = traits.has_offsets;
        self.flags = Flags::empty();
        self.flags.set(Flags::ASYNC, traits.needs_workers);
        self.write_flags = [self.flags; 2];
        // After a buffered write that was performed inline, as on XFS and btrfs, the kernel flushes
        // inline as well and waits for the drive. Direct I/O completes later.
        let opened = fcntl_getfl(&file).unwrap_or(OFlags::empty());
        if !opened.contains(OFlags::DIRECT) {
            let always = opened.intersects(OFlags::DSYNC | OFlags::SYNC);
            self.write_flags[0].set(Flags::ASYNC, traits.needs_workers || always);
            self.write_flags[1] |= Flags::ASYNC;
        }
        if traits.in_memory {
            // A write may wait for memory. With `O_NONBLOCK`, kernels before 6.5 end it with `EAGAIN`.
            self.write_flags = [self.flags | Flags::ASYNC; 2];
        }
        self.file = Some(file);
    }

    /// Returns the flags of a write.
    #[inline]
    pub(super) fn write_flags(&self, durable: bool) -> Flags {
        self.write_flags[usize::from(durable)]
    }

    pub(super) fn clear(&mut self) {
        *self = Self::EMPTY;
    }

    /// Has worker threads perform all later operations on the file. Called after an `EAGAIN`: a file
    /// opened with `O_NONBLOCK` ends operations with it where the device does not support
    /// non-blocking ones, as dm-crypt before Linux 6.5. A file that can be polled stays as it is,
    /// since the kernel waits for it.
    pub(super) fn use_workers(&mut self) {
        if self.has_offsets {
            self.flags |= Flags::ASYNC;
            self.write_flags = [self.flags; 2];
        }
    }

    /// Keeps the descriptor open for ever.
    pub(super) fn leak(&mut self) {
        std::mem::forget(self.file.take());
    }
}

/// A slot of the buffer table.
#[derive(Debug)]
pub(super) struct BufferSlotState {
    buffer: Option<Buffer>,
    /// The buffer's address, cached here to spare each operation a load; null for an empty slot.
    pub(super) base: *mut u8,
    pub(super) len: u64,
    /// The index of the buffer's first piece in the kernel's table, if the buffer is registered.
    pub(super) buf_index: Option<u16>,
}

impl BufferSlotState {
    pub(super) const EMPTY: Self = Self {
        buffer: None,
        base: ptr::null_mut(),
        len: 0,
        buf_index: None,
    };

    pub(super) fn set(&mut self, buffer: Option<Buffer>, buf_index: Option<u16>) {
        self.base = buffer.as_ref().map_or(ptr::null_mut(), Buffer::as_ptr);
        self.len = buffer.as_ref().map_or(0, |buffer| buffer.len() as u64);
        self.buf_index = buf_index;
        self.buffer = buffer;
    }

    /// Returns the indexes that the buffer's pieces have in the kernel's table.
    pub(super) fn indexes(&self) -> Range<u32> {
        match self.buf_index {
            Some(first) => u32::from(first)..u32::from(first) + pieces(self.len),
            None => 0..0,
        }
    }

    /// Keeps the memory mapped for ever.
    pub(super) fn leak(&mut self) {
        std::mem::forget(self.buffer.take());
    }
}

/// Returns the number of pieces that a buffer of this length is registered in.
pub(super) fn pieces(len: u64) -> u32 {
    u32::try_from(len.div_ceil(1 << PIECE_SHIFT)).unwrap_or(u32::MAX)
}

/// The indexes of the kernel's buffer table beyond one for each slot. They serve buffers of several
/// pieces.
#[derive(Debug)]
pub(super) struct SpareIndexes {
    first: u32,
    taken: Box<[bool]>,
}

impl SpareIndexes {
    pub(super) fn new(range: Range<u32>) -> Self {
        Self {
            first: range.start,
            taken: vec![false; range.len()].into(),
        }
    }

    /// Takes a run of free indexes and returns the first.
    pub(super) fn take(&mut self, count: u32) -> Option<u32> {
        let count = count as usize;
        let start = self
            .taken
            .windows(count)
            .position(|run| run.iter().all(|&taken| !taken))?;
        self.taken[start..start + count].fill(true);
        Some(self.first + start as u32)
    }

    /// Frees an index. Ignores the indexes of slots, which are never handed out.
    pub(super) fn free(&mut self, index: u32) {
        let at = index.checked_sub(self.first);
        if let Some(taken) = at.and_then(|at| self.taken.get_mut(at as usize)) {
            *taken = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_disjoint_and_reused() {
        let mut indexes = SpareIndexes::new(10..15);
        assert_eq!(indexes.take(2), Some(10));
        assert_eq!(indexes.take(2), Some(12));
        assert_eq!(indexes.take(2), None);
        assert_eq!(indexes.take(1), Some(14));
        indexes.free(11);
        indexes.free(12);
        indexes.free(9);
        indexes.free(99);
        assert_eq!(indexes.take(2), Some(11));
    }

    #[test]
    fn durable_writes_are_for_workers_unless_they_are_direct() {
        let path = tempfile::NamedTempFile::new().unwrap();
        for (opened, workers) in [
            (OFlags::empty(), [false, true]),
            (OFlags::DSYNC, [true, true]),
            (OFlags::SYNC, [true, true]),
            (OFlags::DIRECT, [false, false]),
            (OFlags::DIRECT | OFlags::DSYNC, [false, false]),
        ] {
            let flags = OFlags::RDWR | opened;
            // Not every file system takes O_DIRECT.
            let Ok(file) = rustix::fs::open(path.path(), flags, rustix::fs::Mode::empty()) else {
                assert!(opened.contains(OFlags::DIRECT));
                continue;
            };
            let mut traits = FileTraits::of(&file);
            traits.needs_workers = false;
            // The folder may be on a tmpfs.
            traits.in_memory = false;
            let mut state = FileSlotState::EMPTY;
            state.set(Arc::new(file), traits);
            let found = [false, true].map(|durable| state.write_flags(durable) == Flags::ASYNC);
            assert_eq!(found, workers, "{opened:?}");
            assert_eq!(state.flags, Flags::empty(), "reads are tried inline");
            state.use_workers();
            assert_eq!(
                [false, true].map(|durable| state.write_flags(durable)),
                [Flags::ASYNC; 2]
            );
        }
    }

    #[test]
    fn pieces_round_up() {
        let gib = 1u64 << PIECE_SHIFT;
        assert_eq!([1, gib, gib + 1, 3 * gib].map(pieces), [1, 1, 2, 3]);
    }
}
