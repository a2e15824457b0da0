//! Memory that a server shares, mapped from a sealed memfd.
//!
//! No reference to the bytes is ever created. They are accessed as relaxed atomic words of eight bytes; the queue's
//! region accesses its own mapping as words of four.
#![expect(
    unsafe_code,
    reason = "maps memory that another process may write at any time"
)]

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use vyre_ioq::Region;

use crate::error::{MemoryError, OutOfRange};

/// The number of bytes of an atomic word.
const WORD: usize = size_of::<u64>();

/// A mapping of a memfd that cannot shrink, unmapped on drop.
pub(crate) struct Mapping {
    base: NonNull<u8>,
    /// Bytes that were asked for. The mapping has whole pages.
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread; its methods access the bytes only by atomic operations.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`; each location has one access width for the life of the mapping.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `base` is that of a mapping of `len` bytes, in whole pages, that this value alone owns.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "munmap of an owned mapping: {unmapped:?}");
    }
}

impl Mapping {
    /// Maps the first bytes of a memfd, if it cannot lose them.
    pub(crate) fn new(memfd: impl AsFd, bytes: u64) -> Result<Self, MemoryError> {
        let memfd = memfd.as_fd();
        let seals = fcntl_get_seals(memfd).map_err(MemoryError::NotMemfd)?;
        if !seals.contains(SealFlags::SHRINK) {
            return Err(MemoryError::CanShrink);
        }
        let found = fstat(memfd).map_err(MemoryError::NotMemfd)?;
        // A negative size is none.
        let have = u64::try_from(found.st_size).unwrap_or(0);
        let len = usize::try_from(bytes)
            .ok()
            .filter(|&len| len <= isize::MAX as usize);
        match len {
            Some(len) if len > 0 && bytes <= have => Self::map(memfd, len),
            _ => Err(MemoryError::WrongLength { need: bytes, have }),
        }
    }

    fn map(memfd: BorrowedFd<'_>, len: usize) -> Result<Self, MemoryError> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe { mmap(ptr::null_mut(), len, protection, MapFlags::SHARED, memfd, 0) };
        let base = base.map_err(MemoryError::Map)?.cast::<u8>();
        let base = NonNull::new(base).ok_or(MemoryError::Map(rustix::io::Errno::NOMEM))?;
        Ok(Self { base, len })
    }

    /// Turns the memory into the region of a queue.
    pub(crate) fn into_region(self) -> Result<Region, vyre_ioq::AttachError> {
        let (base, len) = (self.base, self.len);
        // SAFETY: the bytes are mapped, readable and writable until `self` is dropped, which the region keeps, since the
        // file behind them cannot shrink; moving it does not move them. Nothing else in this process knows their address.
        unsafe { Region::from_owner(base, len, self) }
    }

    fn check(&self, offset: usize, count: usize) -> Result<(), OutOfRange> {
        let len = self.len;
        match offset.checked_add(count) {
            Some(end) if end <= len => Ok(()),
            _ => Err(OutOfRange { offset, count, len }),
        }
    }

    /// Returns the word that holds a byte inside the memory.
    #[inline]
    fn word(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset < self.len);
        let at = self.base.as_ptr().wrapping_add(offset - offset % WORD);
        // SAFETY: the mapping begins at a page and has whole pages, so the word is aligned and all of it is mapped while
        // `self` is borrowed. A mapping that is not a queue's is accessed in this process as these words alone.
        unsafe { AtomicU64::from_ptr(at.cast::<u64>()) }
    }

    fn read_at(&self, offset: usize, out: &mut [u8]) -> Result<(), OutOfRange> {
        self.check(offset, out.len())?;
        let (mut at, mut rest) = (offset, out);
        while !rest.is_empty() {
            let skip = at % WORD;
            let (head, tail) = rest.split_at_mut((WORD - skip).min(rest.len()));
            let word = self.word(at).load(Relaxed).to_ne_bytes();
            head.copy_from_slice(&word[skip..skip + head.len()]);
            (at, rest) = (at + head.len(), tail);
        }
        Ok(())
    }

    fn write_at(&self, offset: usize, data: &[u8]) -> Result<(), OutOfRange> {
        self.check(offset, data.len())?;
        let (mut at, mut rest) = (offset, data);
        while !rest.is_empty() {
            let skip = at % WORD;
            let (head, tail) = rest.split_at((WORD - skip).min(rest.len()));
            let edit = |word: u64| {
                let mut bytes = word.to_ne_bytes();
                bytes[skip..skip + head.len()].copy_from_slice(head);
                u64::from_ne_bytes(bytes)
            };
            if head.len() == WORD {
                self.word(at).store(edit(0), Relaxed);
            } else {
                // The closure never declines, so neither does the update.
                let _ = self
                    .word(at)
                    .fetch_update(Relaxed, Relaxed, |word| Some(edit(word)));
            }
            (at, rest) = (at + head.len(), tail);
        }
        Ok(())
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapping({:p}, {} bytes)", self.base, self.len)
    }
}

/// Bytes of a buffer, which the server and this process share.
///
/// Reading and writing it is safe whatever the server does at the same time. A read beside a write may return a
/// mixture of old and new bytes; it is never undefined behaviour.
#[derive(Debug)]
pub struct SharedMemory(Mapping);

impl SharedMemory {
    pub(crate) const fn new(mapping: Mapping) -> Self {
        Self(mapping)
    }

    /// Returns the number of bytes.
    pub const fn len(&self) -> usize {
        self.0.len
    }

    /// Returns whether there are no bytes: never.
    pub const fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// Returns the address of the first byte.
    ///
    /// Other processes write there at any time: access it by relaxed atomics, or while no request that names the buffer
    /// is without an outcome and the server is trusted.
    pub const fn as_ptr(&self) -> *mut u8 {
        self.0.base.as_ptr()
    }

    /// Copies bytes out of the memory.
    ///
    /// # Errors
    /// [`OutOfRange`] if the range leaves the memory; nothing was copied.
    pub fn read_at(&self, offset: usize, out: &mut [u8]) -> Result<(), OutOfRange> {
        self.0.read_at(offset, out)
    }

    /// Copies bytes into the memory. A part of a word is exchanged atomically, so that bytes beside it that others write
    /// at the same time are not lost.
    ///
    /// # Errors
    /// [`OutOfRange`] if the range leaves the memory; nothing was copied.
    pub fn write_at(&self, offset: usize, data: &[u8]) -> Result<(), OutOfRange> {
        self.0.write_at(offset, data)
    }
}

#[cfg(test)]
mod tests;
