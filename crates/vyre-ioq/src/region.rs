//! Access to shared memory by words. No other file of the queue itself has unsafe code.
//!
//! A reference to shared bytes never outlives one expression and never leaves this file. Only `u32` values
//! leave it.

#![expect(unsafe_code, reason = "all access to shared memory is here")]

use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

#[cfg(feature = "alloc")]
use alloc::sync::Arc;
#[cfg(feature = "alloc")]
use core::any::Any;

use crate::error::AttachError;

const WORD: usize = size_of::<u32>();

/// Memory of a queue, shared with a device or another process.
///
/// A clone refers to the same memory. A region can only be passed to [`HostQueue`](crate::HostQueue) or
/// [`DeviceQueue`](crate::DeviceQueue).
#[derive(Clone)]
pub struct Region {
    base: NonNull<AtomicU32>,
    len: usize,
    /// Number of whole words.
    words: usize,
    #[cfg(feature = "alloc")]
    owner: Option<Arc<dyn Any + Send + Sync>>,
}

// SAFETY: a region is an address and a length. The memory at the address is accessed only as atomic
// words, from any thread, and outlives the region by the contracts of the constructors.
unsafe impl Send for Region {}
// SAFETY: as for `Send`; `&Region` offers nothing but atomic access.
unsafe impl Sync for Region {}

impl Region {
    /// Returns the region of `len` bytes at `base`. Bytes past the last whole word are never accessed.
    ///
    /// # Errors
    /// [`AttachError::Misaligned`] if `base` is not aligned to four bytes.
    ///
    /// # Safety
    /// For as long as the region, a clone of it, or a queue made from either exists:
    /// - the bytes are mapped, readable and writable;
    /// - this process accesses them only through this crate or by aligned 32-bit atomics. Other processes and
    ///   devices may store anything at any time.
    pub unsafe fn from_raw_parts(base: NonNull<u8>, len: usize) -> Result<Self, AttachError> {
        if !base.cast::<AtomicU32>().is_aligned() {
            return Err(AttachError::Misaligned {
                address: base.as_ptr().addr(),
                align: WORD,
            });
        }
        Ok(Self {
            base: base.cast(),
            len,
            words: len / WORD,
            #[cfg(feature = "alloc")]
            owner: None,
        })
    }

    /// Returns the region of `len` bytes at `base`, and keeps `owner` until the last clone is dropped. The owner
    /// may be a mapping, for example, that unmaps itself when it is dropped.
    ///
    /// # Errors
    /// [`AttachError::Misaligned`] if `base` is not aligned to four bytes.
    ///
    /// # Safety
    /// The same as for [`from_raw_parts`](Self::from_raw_parts), for as long as `owner` lives; moving `owner`
    /// must neither move the bytes nor end the validity of `base`, as moving a `Box` would.
    #[cfg(feature = "alloc")]
    pub unsafe fn from_owner(
        base: NonNull<u8>,
        len: usize,
        owner: impl Any + Send + Sync,
    ) -> Result<Self, AttachError> {
        // SAFETY: the caller promises it while `owner` lives, and the region now holds `owner`.
        let mut region = unsafe { Self::from_raw_parts(base, len) }?;
        region.owner = Some(Arc::new(owner));
        Ok(region)
    }

    /// Allocates `len` zeroed bytes from the global allocator, aligned to a page, for a queue between threads of
    /// one process.
    ///
    /// # Errors
    /// [`AttachError::OutOfMemory`] if the allocator has no memory.
    #[cfg(feature = "alloc")]
    pub fn allocate(len: usize) -> Result<Self, AttachError> {
        let pages = Pages::zeroed(len)?;
        // SAFETY: `pages` owns at least `len` bytes, nothing but it and the region refers to them, and it
        // frees them when the last clone of the region drops it.
        unsafe { Self::from_owner(pages.base, len, pages) }
    }

    /// Returns a region without memory.
    pub(crate) const fn empty() -> Self {
        Self {
            base: NonNull::dangling(),
            len: 0,
            words: 0,
            #[cfg(feature = "alloc")]
            owner: None,
        }
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the region holds no whole word.
    pub fn is_empty(&self) -> bool {
        self.words == 0
    }

    /// Returns the address of the first byte.
    pub fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr().cast()
    }

    /// Returns `N` words from `first` on: one bounds check for many accesses.
    ///
    /// # Panics
    /// If a word is outside the region. Callers pass geometry that was checked when they attached.
    #[inline]
    pub(crate) fn words<const N: usize>(&self, first: usize) -> Words<'_, N> {
        if self.words < N || first > self.words - N {
            outside(first, self.words);
        }
        // SAFETY: `first` is at most the number of words, so the result is inside the mapping or
        // one past its end.
        let base = unsafe { self.base.add(first) };
        Words {
            base,
            region: PhantomData,
        }
    }
}

/// Panics. It is a function of its own so that the message takes no registers of the hot path.
#[cold]
#[inline(never)]
fn outside(first: usize, words: usize) -> ! {
    panic!("words from {first} on are outside a region of {words} words");
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({:p}, {} bytes)", self.base, self.len())
    }
}

/// `N` shared words. Each access is to one whole word.
#[derive(Clone, Copy)]
pub(crate) struct Words<'r, const N: usize> {
    base: NonNull<AtomicU32>,
    region: PhantomData<&'r Region>,
}

impl<const N: usize> Words<'_, N> {
    /// Loads a word. Words are little-endian in memory on every machine.
    #[inline]
    pub(crate) fn load(self, word: usize, order: Ordering) -> u32 {
        #[cfg(feature = "test-utils")]
        crate::test_utils::before_load();
        // SAFETY: `word_ptr` is valid, aligned and only accessed atomically (`Region`'s contract);
        // the reference dies with the expression.
        let shared = unsafe { self.word_ptr(word).as_ref() };
        u32::from_le(shared.load(order))
    }

    /// Stores a word.
    #[inline]
    pub(crate) fn store(self, word: usize, value: u32, order: Ordering) {
        // SAFETY: as in `load`.
        let shared = unsafe { self.word_ptr(word).as_ref() };
        shared.store(value.to_le(), order);
    }

    /// Wakes at most so many threads, of any process, that wait on a word as on a futex.
    #[cfg(all(feature = "std", target_os = "linux"))]
    pub(crate) fn wake_futex(self, word: usize, most: u32) {
        use rustix::thread::futex::{self, Flags};

        // SAFETY: as in `load`. The system call does not access the word.
        let shared = unsafe { self.word_ptr(word).as_ref() };
        // The call fails only for an address that is not mapped.
        let _ = futex::wake(shared, Flags::empty(), most);
    }

    /// Waits on a word as on a futex of several processes, while it has the expected value and until the time is over.
    /// May return early.
    #[cfg(all(feature = "std", target_os = "linux"))]
    pub(crate) fn wait_futex(
        self,
        word: usize,
        expected: u32,
        limit: Option<core::time::Duration>,
    ) {
        use rustix::thread::futex::{self, Flags, Timespec};

        // A time too long to be represented is no limit.
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        // SAFETY: as in `load`. The kernel loads the word as an atomic.
        let shared = unsafe { self.word_ptr(word).as_ref() };
        let _ = futex::wait(shared, Flags::empty(), expected.to_le(), limit.as_ref());
    }

    #[inline]
    fn word_ptr(self, word: usize) -> NonNull<AtomicU32> {
        assert!(word < N);
        // SAFETY: `Region::words` checked that `N` words from `base` on are inside the region.
        unsafe { self.base.add(word) }
    }
}

/// Page-aligned zeroed memory from the global allocator.
#[cfg(feature = "alloc")]
struct Pages {
    base: NonNull<u8>,
    layout: core::alloc::Layout,
}

#[cfg(feature = "alloc")]
impl Pages {
    fn zeroed(len: usize) -> Result<Self, AttachError> {
        let out_of_memory = AttachError::OutOfMemory { bytes: len };
        let layout = core::alloc::Layout::from_size_align(len.max(1), crate::abi::HEADER_ALIGN)
            .map_err(|_| out_of_memory)?
            .pad_to_align();
        // SAFETY: the size is not zero.
        let base = unsafe { alloc::alloc::alloc_zeroed(layout) };
        let base = NonNull::new(base).ok_or(out_of_memory)?;
        Ok(Self { base, layout })
    }
}

#[cfg(feature = "alloc")]
impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: `base` came from `alloc_zeroed` with this layout and is freed once.
        unsafe { alloc::alloc::dealloc(self.base.as_ptr(), self.layout) };
    }
}

// SAFETY: nothing else refers to the allocation, and it may be freed from another thread.
#[cfg(feature = "alloc")]
unsafe impl Send for Pages {}
// SAFETY: `&Pages` offers nothing.
#[cfg(feature = "alloc")]
unsafe impl Sync for Pages {}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;

    #[test]
    fn words_outside_the_region_are_refused() {
        let region = Region::allocate(64).expect("memory");
        let words = region.len() / WORD;
        let outside = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            region.words::<8>(words - 7);
        }));
        assert!(outside.is_err());
        region.words::<8>(words - 8).store(7, 5, Ordering::Relaxed);
        assert_eq!(region.words::<1>(words - 1).load(0, Ordering::Relaxed), 5);
    }

    #[test]
    fn a_misaligned_base_is_refused() {
        let region = Region::allocate(64).expect("memory");
        let odd = NonNull::new(region.as_ptr().wrapping_add(2)).expect("not null");
        // SAFETY: refused before any access; the bytes live as long as `region`.
        let refused = unsafe { Region::from_raw_parts(odd, 32) };
        assert!(matches!(
            refused,
            Err(AttachError::Misaligned { align: 4, .. })
        ));
    }
}
