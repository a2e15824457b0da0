//! The files and buffers that operations name by slot.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Arc;

use io_uring::squeue::Flags;
use rustix::fs::{OFlags, fcntl_getfl};

use crate::buffer::Buffer;
use crate::file_traits::FileTraits;

/// The bytes that one place of the kernel's buffer table can hold, as a power of two: 1 GiB.
pub(crate) const PIECE_SHIFT: u32 = 30;

/// A slot of the file table.
#[derive(Debug)]
pub(crate) struct FileEntry {
    file: Option<Arc<OwnedFd>>,
    /// The descriptor, or -1.
    raw: RawFd,
    /// Flags of each operation on it, except for writes.
    pub(crate) flags: Flags,
    /// Flags of a write, and of a write that is flushed.
    of_writes: [Flags; 2],
    has_offsets: bool,
    pub(crate) in_flight: u32,
}

impl FileEntry {
    pub(crate) const EMPTY: Self = Self {
        file: None,
        raw: -1,
        flags: Flags::empty(),
        of_writes: [Flags::empty(); 2],
        has_offsets: false,
        in_flight: 0,
    };

    /// The descriptor, if there is a file; it is open for as long as the file stays in the slot.
    #[inline]
    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        (self.raw >= 0).then_some(self.raw)
    }

    pub(crate) fn set(&mut self, file: Arc<OwnedFd>, traits: FileTraits) {
        self.raw = file.as_raw_fd();
        self.has_offsets = traits.has_offsets;
        self.flags = Flags::empty();
        self.flags.set(Flags::ASYNC, traits.needs_workers);
        self.of_writes = [self.flags; 2];
        // After a buffered write that was done inline, as on XFS and btrfs, the kernel flushes inline as
        // well, and waits for the drive. Direct I/O completes later.
        let opened = fcntl_getfl(&file).unwrap_or(OFlags::empty());
        if !opened.contains(OFlags::DIRECT) {
            let always = opened.intersects(OFlags::DSYNC | OFlags::SYNC);
            self.of_writes[0].set(Flags::ASYNC, traits.needs_workers || always);
            self.of_writes[1] |= Flags::ASYNC;
        }
        self.file = Some(file);
    }

    /// Returns the flags of a write.
    #[inline]
    pub(crate) fn flags_of_write(&self, durable: bool) -> Flags {
        self.of_writes[usize::from(durable)]
    }

    pub(crate) fn clear(&mut self) {
        *self = Self {
            in_flight: self.in_flight,
            ..Self::EMPTY
        };
    }

    /// Has operations performed by worker threads from here on, where one that may not wait ends
    /// with `EAGAIN`. Before Linux 6.5 that is so for a file opened with `O_NONBLOCK` on a device
    /// without support for such operations, as dm-crypt. A file that can be polled is waited for by
    /// the kernel, and stays as it is.
    pub(crate) fn use_workers(&mut self) {
        if self.has_offsets {
            self.flags |= Flags::ASYNC;
            self.of_writes = [self.flags; 2];
        }
    }

    /// Keeps the descriptor open for ever.
    pub(crate) fn leak(&mut self) {
        std::mem::forget(self.file.take());
    }
}

/// A slot of the buffer table.
#[derive(Debug)]
pub(crate) struct BufferEntry {
    buffer: Option<Buffer>,
    /// Of the buffer, cached here to spare an operation the way there; null if there is none.
    pub(crate) base: *mut u8,
    pub(crate) len: u64,
    /// The first place in the kernel's table, if the buffer is registered there.
    pub(crate) place: Option<u16>,
    pub(crate) in_flight: u32,
}

impl BufferEntry {
    pub(crate) const EMPTY: Self = Self {
        buffer: None,
        base: ptr::null_mut(),
        len: 0,
        place: None,
        in_flight: 0,
    };

    pub(crate) fn set(&mut self, buffer: Option<Buffer>, place: Option<u16>) {
        self.base = buffer.as_ref().map_or(ptr::null_mut(), Buffer::as_ptr);
        self.len = buffer.as_ref().map_or(0, |buffer| buffer.len() as u64);
        self.place = place;
        self.buffer = buffer;
    }

    /// The places that the buffer takes in the kernel's table.
    pub(crate) fn places(&self) -> std::ops::Range<u32> {
        match self.place {
            Some(first) => u32::from(first)..u32::from(first) + pieces(self.len),
            None => 0..0,
        }
    }

    /// Keeps the memory mapped for ever.
    pub(crate) fn leak(&mut self) {
        std::mem::forget(self.buffer.take());
    }
}

/// The places that a buffer of this length needs.
pub(crate) fn pieces(len: u64) -> u32 {
    u32::try_from(len.div_ceil(1 << PIECE_SHIFT)).unwrap_or(u32::MAX)
}

/// Which of the places beyond one for each slot are taken.
#[derive(Debug)]
pub(crate) struct Places {
    first: u32,
    taken: Box<[bool]>,
}

impl Places {
    pub(crate) fn new(first: u32, end: u32) -> Self {
        Self {
            first,
            taken: vec![false; end.saturating_sub(first) as usize].into(),
        }
    }

    /// Takes a run of free places.
    pub(crate) fn take(&mut self, count: u32) -> Option<u32> {
        let count = count as usize;
        let start = self
            .taken
            .windows(count)
            .position(|run| run.iter().all(|&taken| !taken))?;
        self.taken[start..start + count].fill(true);
        Some(self.first + start as u32)
    }

    /// Gives a place back. Places that were never handed out, those of slots, are ignored.
    pub(crate) fn give_back(&mut self, place: u32) {
        let index = place.checked_sub(self.first);
        if let Some(taken) = index.and_then(|index| self.taken.get_mut(index as usize)) {
            *taken = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_disjoint_and_reused() {
        let mut places = Places::new(10, 15);
        assert_eq!(places.take(2), Some(10));
        assert_eq!(places.take(2), Some(12));
        assert_eq!(places.take(2), None);
        assert_eq!(places.take(1), Some(14));
        places.give_back(11);
        places.give_back(12);
        places.give_back(9);
        places.give_back(99);
        assert_eq!(places.take(2), Some(11));
    }

    #[test]
    fn writes_that_are_flushed_are_for_workers_unless_they_are_direct() {
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
            let mut entry = FileEntry::EMPTY;
            entry.set(Arc::new(file), traits);
            let found = [false, true].map(|durable| entry.flags_of_write(durable) == Flags::ASYNC);
            assert_eq!(found, workers, "{opened:?}");
            assert_eq!(entry.flags, Flags::empty(), "reads are tried inline");
            entry.use_workers();
            assert_eq!(
                [false, true].map(|durable| entry.flags_of_write(durable)),
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
