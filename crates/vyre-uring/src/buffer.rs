//! Memory that a device and the kernel may write at any time.
//!
//! No reference to the bytes is ever created. All access is by relaxed atomic words. Each location has
//! one access width for ever, so that concurrent calls never mix widths on it: eight bytes for the
//! aligned words inside the buffer, one byte for the remainder at either end.
#![expect(
    unsafe_code,
    reason = "owns memory that a device and the kernel may write at any time"
)]

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create,
};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};
use thiserror::Error;

use crate::error::BufferError;

/// The smallest mapping in bytes that can hold a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// The number of bytes of an atomic word.
const WORD: usize = size_of::<u64>();

/// A range of bytes is not inside a [`Buffer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{count} bytes at {offset} are not inside a buffer of {len}: check offset and length")]
pub struct OutOfRange {
    /// The offset at which the range begins.
    pub offset: usize,
    /// The number of bytes in the range.
    pub count: usize,
    /// The number of bytes in the buffer.
    pub len: usize,
}

/// Memory that a transport's operations read and write. All clones, and all devices that it is mapped
/// to, share the same bytes.
///
/// Reading and writing it is safe whatever others do at the same time. A read beside a write may return
/// a mixture of old and new bytes; it is never undefined behaviour.
#[derive(Clone)]
pub struct Buffer(Arc<Inner>);

struct Inner {
    base: NonNull<u8>,
    len: usize,
    /// Frees the memory when dropped.
    _owner: Box<dyn Any + Send + Sync>,
}

// SAFETY: `base` stays valid until `_owner`, itself `Send`, is dropped on any thread; the methods
// access the bytes only by atomic operations, which are independent of the thread.
unsafe impl Send for Inner {}
// SAFETY: shared references allow only atomic accesses to the bytes, each location with one width,
// and `_owner` is `Sync`.
unsafe impl Sync for Inner {}

/// A mapping, unmapped on drop.
struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread, and this value does nothing but unmap it.
unsafe impl Send for Mapping {}
// SAFETY: a shared reference to it gives access to nothing.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are those of a mapping that this value alone owns, and the last
        // `Buffer` over it is gone, since that owned this value.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "munmap of an owned mapping: {unmapped:?}");
    }
}

impl Buffer {
    /// Maps zeroed, page-aligned memory of `len` bytes, in huge pages if the kernel has them.
    ///
    /// The memory does not exist in forked children: a copy-on-write in a child would detach it from
    /// the device.
    ///
    /// # Errors
    /// - [`BufferError::Empty`] if `len` is zero.
    /// - [`BufferError::TooLong`] if `len`, rounded up to pages, does not fit the address space.
    /// - [`BufferError::Map`] or [`BufferError::DontFork`] if the kernel refuses the mapping.
    pub fn anonymous(len: usize) -> Result<Self, BufferError> {
        let mapped = whole_pages(len)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe { mmap_anonymous(ptr::null_mut(), mapped, protection, flags) }
            .map_err(|errno| BufferError::Map { len, errno })?;
        let base = NonNull::new(base.cast::<u8>()).ok_or(BufferError::Map {
            len,
            errno: Errno::NOMEM,
        })?;
        let mapping = Mapping { base, len: mapped };
        // SAFETY: the range is that of the mapping just made; the advice leaves its bytes alone.
        unsafe { madvise(base.as_ptr().cast(), mapped, Advice::LinuxDontFork) }
            .map_err(BufferError::DontFork)?;
        if mapped >= HUGE_PAGE {
            // A hint: a kernel without huge pages serves small ones.
            // SAFETY: as above.
            let _ = unsafe { madvise(base.as_ptr().cast(), mapped, Advice::LinuxHugepage) };
        }
        // SAFETY: the mapping is readable and writable for `len <= mapped` bytes until `mapping` is
        // dropped, and nothing else knows its address.
        Ok(unsafe { Self::from_raw_parts(base, len, Box::new(mapping)) })
    }

    /// Creates zeroed, page-aligned memory of `len` bytes that other processes can map too: a memfd.
    /// Returns it with its descriptor. A process that receives the descriptor can read and write all
    /// of the memory, including the remainder of the last page, without a time limit.
    ///
    /// The memory can neither shrink nor grow, and no process can change that or forbid writing: the
    /// descriptor carries the seals `F_SEAL_SHRINK`, `F_SEAL_GROW` and `F_SEAL_SEAL`. If another
    /// process could shrink the file, it could end this one by SIGBUS. The descriptor is closed on
    /// exec.
    ///
    /// ```
    /// let (buffer, memfd) = vyre_uring::Buffer::memfd(1 << 16)?;
    /// // A process that receives `memfd` accesses the same bytes.
    /// let file = std::fs::File::from(memfd);
    /// buffer.write_at(100, b"shared")?;
    /// let mut seen = [0; 6];
    /// std::os::unix::fs::FileExt::read_exact_at(&file, &mut seen, 100)?;
    /// assert_eq!(&seen, b"shared");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// - [`BufferError::Empty`] if `len` is zero.
    /// - [`BufferError::TooLong`] if `len`, rounded up to pages, does not fit the address space.
    /// - [`BufferError::Memfd`], [`BufferError::Resize`], [`BufferError::Seal`] or
    ///   [`BufferError::Map`] if the kernel refuses the memfd, its length, its seals or the mapping.
    pub fn memfd(len: usize) -> Result<(Self, OwnedFd), BufferError> {
        let mapped = whole_pages(len)?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memfd = memfd_create("vyre-buffer", flags).map_err(BufferError::Memfd)?;
        let resized = match getrlimit(Resource::Fsize).current {
            // The call would send SIGXFSZ, which ends the process by default.
            Some(limit) if mapped as u64 > limit => Err(Errno::FBIG),
            _ => ftruncate(&memfd, mapped as u64),
        };
        resized.map_err(|errno| BufferError::Resize { len, errno })?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(&memfd, seals).map_err(BufferError::Seal)?;
        let buffer = Self::over_memfd(memfd.as_fd(), len, mapped)?;
        Ok((buffer, memfd))
    }

    /// Maps all of a memfd that another process made by [`memfd`](Self::memfd). Both processes access
    /// the same bytes.
    ///
    /// ```
    /// let (ours, memfd) = vyre_uring::Buffer::memfd(4096)?;
    /// let theirs = vyre_uring::Buffer::from_memfd(&memfd)?;
    /// ours.write_at(7, b"shared")?;
    /// let mut seen = [0; 6];
    /// theirs.read_at(7, &mut seen)?;
    /// assert_eq!(&seen, b"shared");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// - [`BufferError::NotMemfd`] if the descriptor is not one of a memfd.
    /// - [`BufferError::CanShrink`] unless the memfd carries the seal `F_SEAL_SHRINK`.
    /// - [`BufferError::Empty`] or [`BufferError::TooLong`] for such a length.
    /// - [`BufferError::Map`] if the kernel refuses the mapping.
    pub fn from_memfd(memfd: impl AsFd) -> Result<Self, BufferError> {
        let memfd = memfd.as_fd();
        let seals = fcntl_get_seals(memfd).map_err(BufferError::NotMemfd)?;
        if !seals.contains(SealFlags::SHRINK) {
            return Err(BufferError::CanShrink);
        }
        let found = fstat(memfd).map_err(BufferError::NotMemfd)?;
        // A file that is too long is refused below, as such a length is.
        let len = usize::try_from(found.st_size).unwrap_or(usize::MAX);
        Self::over_memfd(memfd, len, whole_pages(len)?)
    }

    /// Maps `len` bytes, in whole pages, of a memfd that cannot shrink.
    fn over_memfd(memfd: BorrowedFd<'_>, len: usize, mapped: usize) -> Result<Self, BufferError> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe {
            mmap(
                ptr::null_mut(),
                mapped,
                protection,
                MapFlags::SHARED,
                memfd,
                0,
            )
        }
        .map_err(|errno| BufferError::Map { len, errno })?;
        let base = NonNull::new(base.cast::<u8>()).ok_or(BufferError::Map {
            len,
            errno: Errno::NOMEM,
        })?;
        let mapping = Mapping { base, len: mapped };
        // SAFETY: the mapping is readable and writable for `len <= mapped` bytes until `mapping` is
        // dropped, since the file behind it cannot shrink; nothing else in this process knows its
        // address. Other processes access the bytes as other devices do.
        Ok(unsafe { Self::from_raw_parts(base, len, Box::new(mapping)) })
    }

    /// Wraps memory that was allocated elsewhere, such as a shared mapping or pinned memory of a GPU
    /// runtime. `owner` is dropped with the last clone, and frees the memory.
    ///
    /// # Safety
    /// - The `len` bytes at `base` are readable and writable until `owner` is dropped, and `len` is
    ///   at most `isize::MAX`.
    /// - Until then, no code in this process creates a reference to the bytes.
    /// - Until then, this process accesses the bytes only through this buffer's methods, through the
    ///   kernel, as the same atomic words, or in ways that synchronization orders before or after all
    ///   of these.
    /// - The bytes are plain memory: no access has side effects.
    pub unsafe fn from_raw_parts(
        base: NonNull<u8>,
        len: usize,
        owner: Box<dyn Any + Send + Sync>,
    ) -> Self {
        Self(Arc::new(Inner {
            base,
            len,
            _owner: owner,
        }))
    }

    /// Returns the number of bytes in the buffer.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Returns whether the buffer has no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// Returns the address of the first byte, for example to map the memory to a device.
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        self.0.base.as_ptr()
    }

    /// Has the kernel provide all pages of the buffer, as a registration with a ring does. The
    /// registration is quick afterwards, so a thread that must not wait has another thread call this
    /// first. The bytes do not change.
    ///
    /// The call is advice. Kernels before 5.14, and memory that takes no advice, provide each page at
    /// its first access instead.
    pub fn populate(&self) {
        let page = rustix::param::page_size();
        let base = self.as_ptr().cast::<std::ffi::c_void>();
        let before = base.addr() % page;
        // SAFETY: the range covers the pages that the buffer's bytes are in, which are mapped for as
        // long as `self` is borrowed; the advice leaves their bytes alone.
        let _ = unsafe {
            madvise(
                base.wrapping_byte_sub(before),
                self.len() + before,
                Advice::LinuxPopulateWrite,
            )
        };
    }

    /// Returns whether both are clones of one buffer.
    pub fn same_memory(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Copies bytes out of the buffer. Each byte that changes meanwhile arrives with its old or its new
    /// value.
    ///
    /// # Errors
    /// [`OutOfRange`] if the range leaves the buffer; nothing was copied.
    pub fn read_at(&self, offset: usize, out: &mut [u8]) -> Result<(), OutOfRange> {
        self.check(offset, out.len())?;
        let (mut at, mut rest) = (offset, out);
        while !rest.is_empty() {
            let words = self.words();
            if words.contains(&at) {
                let start = at - (at - words.start) % WORD;
                let skip = at - start;
                let take = (WORD - skip).min(rest.len());
                let (head, tail) = rest.split_at_mut(take);
                let word = self.word(start).load(Relaxed).to_ne_bytes();
                head.copy_from_slice(&word[skip..skip + take]);
                (at, rest) = (at + take, tail);
                let whole = (rest.len() / WORD).min((words.end - at) / WORD);
                let (bulk, tail) = rest.split_at_mut(whole * WORD);
                for (index, bytes) in bulk.chunks_exact_mut(WORD).enumerate() {
                    let word = self.word(at + index * WORD).load(Relaxed);
                    bytes.copy_from_slice(&word.to_ne_bytes());
                }
                (at, rest) = (at + whole * WORD, tail);
            } else {
                let (head, tail) = rest.split_at_mut(1);
                head[0] = self.byte(at).load(Relaxed);
                (at, rest) = (at + 1, tail);
            }
        }
        Ok(())
    }

    /// Copies bytes into the buffer. A part of a word is exchanged atomically, so that bytes beside it
    /// that others write at the same time are not lost.
    ///
    /// # Errors
    /// [`OutOfRange`] if the range leaves the buffer; nothing was copied.
    pub fn write_at(&self, offset: usize, data: &[u8]) -> Result<(), OutOfRange> {
        self.check(offset, data.len())?;
        let (mut at, mut rest) = (offset, data);
        while !rest.is_empty() {
            let words = self.words();
            let starts_word = words.contains(&at) && (at - words.start).is_multiple_of(WORD);
            if starts_word && rest.len() >= WORD {
                let whole = (rest.len() / WORD).min((words.end - at) / WORD);
                let (bulk, tail) = rest.split_at(whole * WORD);
                for (index, bytes) in bulk.chunks_exact(WORD).enumerate() {
                    let mut word = [0; WORD];
                    word.copy_from_slice(bytes);
                    self.word(at + index * WORD)
                        .store(u64::from_ne_bytes(word), Relaxed);
                }
                (at, rest) = (at + whole * WORD, tail);
            } else if words.contains(&at) {
                let start = at - (at - words.start) % WORD;
                let skip = at - start;
                let take = (WORD - skip).min(rest.len());
                let (head, tail) = rest.split_at(take);
                let edit = |word: u64| {
                    let mut bytes = word.to_ne_bytes();
                    bytes[skip..skip + take].copy_from_slice(head);
                    Some(u64::from_ne_bytes(bytes))
                };
                // The closure never declines, so neither does the update.
                let _ = self.word(start).fetch_update(Relaxed, Relaxed, edit);
                (at, rest) = (at + take, tail);
            } else {
                self.byte(at).store(rest[0], Relaxed);
                (at, rest) = (at + 1, &rest[1..]);
            }
        }
        Ok(())
    }

    fn check(&self, offset: usize, count: usize) -> Result<(), OutOfRange> {
        let len = self.0.len;
        match offset.checked_add(count) {
            Some(end) if end <= len => Ok(()),
            _ => Err(OutOfRange { offset, count, len }),
        }
    }

    /// Returns the offsets that are covered by aligned words inside the buffer.
    fn words(&self) -> Range<usize> {
        let start = self.0.base.as_ptr().addr().wrapping_neg() % WORD;
        match self.0.len.checked_sub(start) {
            Some(inside) => start..start + (inside - inside % WORD),
            None => 0..0,
        }
    }

    /// Returns the word at an offset that is a multiple of the word size into [`words`](Self::words).
    #[inline]
    fn word(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(
            self.words().contains(&offset),
            "{offset} is not the start of a word"
        );
        let at = self.0.base.as_ptr().wrapping_add(offset).cast::<u64>();
        debug_assert!(at.is_aligned());
        // SAFETY: the caller's offset starts one of `words`, so the address is aligned and its eight
        // bytes are inside the buffer, valid while `self` is borrowed. In this process the location
        // is accessed as this same word alone (`byte` is used outside `words` only, and
        // `from_raw_parts` binds all other code).
        unsafe { AtomicU64::from_ptr(at) }
    }

    /// Returns the byte at an offset inside the buffer and outside [`words`](Self::words).
    #[inline]
    fn byte(&self, offset: usize) -> &AtomicU8 {
        debug_assert!(offset < self.0.len && !self.words().contains(&offset));
        // SAFETY: the offset was checked to be inside the buffer, valid while `self` is borrowed. In
        // this process the location is accessed as this same byte alone.
        unsafe { AtomicU8::from_ptr(self.0.base.as_ptr().wrapping_add(offset)) }
    }
}

/// Rounds a length up to whole pages.
fn whole_pages(len: usize) -> Result<usize, BufferError> {
    if len == 0 {
        return Err(BufferError::Empty);
    }
    len.checked_next_multiple_of(page_size())
        .filter(|&mapped| isize::try_from(mapped).is_ok())
        .ok_or(BufferError::TooLong(len))
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address and the length alone: the bytes may be private.
        f.debug_struct("Buffer")
            .field("base", &self.0.base)
            .field("len", &self.0.len)
            .finish()
    }
}

#[cfg(test)]
mod tests;
