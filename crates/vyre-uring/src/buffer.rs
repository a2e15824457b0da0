//! Memory that a device and the kernel may write at any time.
//!
//! No reference to the bytes is ever made. They are reached by relaxed atomic words: a location has
//! one access width for ever (eight bytes for the aligned words that lie inside the buffer, one byte
//! for what is left at either end), so that concurrent calls never mix widths on it.
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

/// From here on a mapping can hold a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// The bytes of an atomic word.
const WORD: usize = size_of::<u64>();

/// A range of bytes that is not inside a [`Buffer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{count} bytes at {offset} are not inside a buffer of {len}: check offset and length")]
pub struct OutOfRange {
    /// Where the range begins.
    pub offset: usize,
    /// How many bytes it has.
    pub count: usize,
    /// How many bytes the buffer has.
    pub len: usize,
}

/// Memory that a transport's operations fill and drain, shared with whoever holds a clone and with
/// whatever device it was mapped to.
///
/// Reading and writing it is safe whatever others do at the same time: what is read may then be a
/// mixture of old and new bytes, never undefined behaviour.
#[derive(Clone)]
pub struct Buffer(Arc<Inner>);

struct Inner {
    base: NonNull<u8>,
    len: usize,
    /// Frees the memory when dropped.
    _owner: Box<dyn Any + Send + Sync>,
}

// SAFETY: `base` stays valid until `_owner`, itself `Send`, is dropped, on whichever thread; the
// methods reach the bytes only by atomic accesses, for which no thread is special.
unsafe impl Send for Inner {}
// SAFETY: shared references allow only atomic accesses to the bytes, each location with one width,
// and `_owner` is `Sync`.
unsafe impl Sync for Inner {}

/// A mapping, unmapped on drop.
struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: unmapping is a property of the process, not of a thread; nothing else is done through it.
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
    /// Maps zeroed, page-aligned memory of `len` bytes, in huge pages where the kernel can.
    ///
    /// The memory does not exist in forked children: a copy-on-write there would part it from the
    /// device.
    ///
    /// # Errors
    /// [`BufferError`]: no bytes asked for, too many, or what the kernel answered.
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

    /// Makes zeroed, page-aligned memory of `len` bytes that other processes can map too: a memfd,
    /// and the descriptor that names it. Whoever is given the descriptor may read and write all of
    /// the memory, the rest of the last page included, for as long as it likes.
    ///
    /// The memory can neither shrink nor grow, and nobody can change that or forbid writing: the
    /// descriptor carries the seals `F_SEAL_SHRINK`, `F_SEAL_GROW` and `F_SEAL_SEAL`. A file that
    /// another process could shrink would end this one by SIGBUS. The descriptor is closed on exec.
    ///
    /// ```
    /// let (buffer, memfd) = vyre_uring::Buffer::memfd(1 << 16)?;
    /// // Sent to another process, `memfd` is that process's way to the same bytes.
    /// let file = std::fs::File::from(memfd);
    /// buffer.write_at(100, b"shared")?;
    /// let mut seen = [0; 6];
    /// std::os::unix::fs::FileExt::read_exact_at(&file, &mut seen, 100)?;
    /// assert_eq!(&seen, b"shared");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`BufferError`]: no bytes asked for, too many, or what the kernel answered.
    pub fn memfd(len: usize) -> Result<(Self, OwnedFd), BufferError> {
        let mapped = whole_pages(len)?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memfd = memfd_create("vyre-buffer", flags).map_err(BufferError::Memfd)?;
        let resized = match getrlimit(Resource::Fsize).current {
            // The call would send SIGXFSZ, which ends the process.
            Some(limit) if mapped as u64 > limit => Err(Errno::FBIG),
            _ => ftruncate(&memfd, mapped as u64),
        };
        resized.map_err(|errno| BufferError::Resize { len, errno })?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(&memfd, seals).map_err(BufferError::Seal)?;
        let buffer = Self::over_memfd(memfd.as_fd(), len, mapped)?;
        Ok((buffer, memfd))
    }

    /// Maps what another process made by [`memfd`](Self::memfd), all of it. The bytes are the same as
    /// there.
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
    /// [`BufferError::NotMemfd`], [`BufferError::CanShrink`] unless it carries the seal
    /// `F_SEAL_SHRINK`, [`BufferError::Empty`], or what the kernel answered.
    pub fn from_memfd(memfd: impl AsFd) -> Result<Self, BufferError> {
        let memfd = memfd.as_fd();
        let seals = fcntl_get_seals(memfd).map_err(BufferError::NotMemfd)?;
        if !seals.contains(SealFlags::SHRINK) {
            return Err(BufferError::CanShrink);
        }
        let found = fstat(memfd).map_err(BufferError::NotMemfd)?;
        // Too long a file is refused below, as too long a length is.
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

    /// Wraps memory that someone else allocated: a shared mapping, pinned memory of a GPU runtime.
    /// `owner` is dropped with the last clone, and frees it.
    ///
    /// # Safety
    /// - The `len` bytes at `base` are readable and writable until `owner` is dropped, and `len` is
    ///   at most `isize::MAX`.
    /// - While that lasts, nobody in this process makes a reference to the bytes or accesses them
    ///   other than through this buffer's methods and the kernel, except in ways that cannot race
    ///   with those (ordered before or after by synchronization) or as the same atomic words.
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

    /// The bytes in the buffer.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether it has none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// The address of the first byte, for whoever maps the memory to a device.
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        self.0.base.as_ptr()
    }

    /// Has the kernel provide all pages of the buffer, as registering it with a ring does.
    /// Registering it afterwards is quick, so a thread that must not wait has another one call this
    /// before. The bytes stay as they are.
    ///
    /// It is advice. Memory that takes none, and a kernel before 5.14, leave the pages to whoever
    /// touches them first.
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

    /// Whether both are clones of one buffer.
    pub fn same_memory(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Copies bytes out. Bytes that change meanwhile arrive as they were or as they become.
    ///
    /// # Errors
    /// [`OutOfRange`]; nothing was copied.
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

    /// Copies bytes in. Part of a word is exchanged into it atomically, so that neighbours which
    /// others write at the same time are kept.
    ///
    /// # Errors
    /// [`OutOfRange`]; nothing was copied.
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

    /// The offsets covered by aligned words that lie wholly inside the buffer.
    fn words(&self) -> Range<usize> {
        let start = self.0.base.as_ptr().addr().wrapping_neg() % WORD;
        match self.0.len.checked_sub(start) {
            Some(inside) => start..start + (inside - inside % WORD),
            None => 0..0,
        }
    }

    /// The word at an offset that is a multiple of the word size into [`words`](Self::words).
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
        // `from_raw_parts` binds everyone else).
        unsafe { AtomicU64::from_ptr(at) }
    }

    /// The byte at an offset inside the buffer and outside [`words`](Self::words).
    #[inline]
    fn byte(&self, offset: usize) -> &AtomicU8 {
        debug_assert!(offset < self.0.len && !self.words().contains(&offset));
        // SAFETY: the offset was checked to be inside the buffer, valid while `self` is borrowed. In
        // this process the location is accessed as this same byte alone.
        unsafe { AtomicU8::from_ptr(self.0.base.as_ptr().wrapping_add(offset)) }
    }
}

/// The bytes of the pages that `len` bytes take.
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
        // The address and length alone: the bytes are nobody's to print.
        f.debug_struct("Buffer")
            .field("base", &self.0.base)
            .field("len", &self.0.len)
            .finish()
    }
}

#[cfg(test)]
mod tests;
