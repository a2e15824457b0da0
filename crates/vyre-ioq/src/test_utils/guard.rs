//! Memory between two guard pages.

#![expect(
    unsafe_code,
    reason = "maps memory between guard pages, which becomes a region"
)]

use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use std::sync::Arc;

use crate::error::AttachError;
use crate::region::Region;

const WORD: usize = size_of::<u32>();
/// Value of the words of the pages that are not lent out.
const SLACK: u32 = 0xa5a5_a5a5;

/// Zeroed memory for a queue, between two pages that cannot be accessed: a load or a store there ends the
/// process by SIGSEGV.
///
/// If the memory does not fill its pages, the rest of the last page (or of the first, see
/// [`at_end`](Self::at_end)) can be accessed. [`is_intact`](Self::is_intact) returns whether anything was
/// stored there. A queue of 64 slots, or a multiple of that, fills its pages.
///
/// A clone refers to the same memory. Under Miri, which finds accesses outside by itself, there are no guard
/// pages.
///
/// ```
/// use vyre_ioq::test_utils::GuardedMemory;
/// use vyre_ioq::{Queue, QueueLayout};
///
/// let layout = QueueLayout::with_slots(64);
/// let memory = GuardedMemory::new(layout.bytes())?;
/// let (host, device) = Queue::in_region(memory.region(), layout)?;
/// # Ok::<(), vyre_ioq::AttachError>(())
/// ```
#[derive(Clone, Debug)]
pub struct GuardedMemory {
    mapping: Arc<Mapping>,
    /// All accessible words.
    pages: Region,
    /// Offset of the first byte that is lent out.
    start: usize,
    len: usize,
}

impl GuardedMemory {
    /// Maps `len` bytes that begin directly after the first guard page.
    ///
    /// # Errors
    /// [`AttachError::OutOfMemory`] if they cannot be mapped.
    pub fn new(len: usize) -> Result<Self, AttachError> {
        Self::starting_at(0, len)
    }

    /// Maps `len` bytes that end directly before the second guard page. They are page-aligned only if `len` is a
    /// multiple of the page size; a queue with a header requires that.
    ///
    /// # Errors
    /// [`AttachError::Misaligned`] if `len` is not a multiple of four;
    /// [`AttachError::OutOfMemory`] if the bytes cannot be mapped.
    pub fn at_end(len: usize) -> Result<Self, AttachError> {
        let page = page_size();
        Self::starting_at(len.next_multiple_of(page) - len, len)
    }

    /// Maps `len` bytes that begin `start` bytes after the first guard page, for tests of alignment.
    ///
    /// # Errors
    /// [`AttachError::Misaligned`] if `start` is not a multiple of four;
    /// [`AttachError::OutOfMemory`] if the bytes cannot be mapped.
    pub fn starting_at(start: usize, len: usize) -> Result<Self, AttachError> {
        let out_of_memory = AttachError::OutOfMemory { bytes: len };
        let end = start.checked_add(len).ok_or(out_of_memory)?;
        let mapping = Arc::new(Mapping::new(end.max(1)).ok_or(out_of_memory)?);
        let pages = mapping.region(0, mapping.len)?;
        let memory = Self {
            mapping,
            pages,
            start,
            len,
        };
        // Refuses a start between two words.
        drop(memory.try_region(0, len)?);
        for word in memory.slack() {
            memory
                .pages
                .words::<1>(word)
                .store(0, SLACK, Ordering::Relaxed);
        }
        Ok(memory)
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the length is zero.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the region of all of the memory.
    pub fn region(&self) -> Region {
        self.try_region(0, self.len)
            .expect("checked when the memory was made")
    }

    /// Returns the region of `len` bytes from byte `skip` on.
    ///
    /// # Errors
    /// [`AttachError::Misaligned`] if the first byte is not aligned to a word;
    /// [`AttachError::TooShort`] if the bytes are not all inside the memory.
    pub fn try_region(&self, skip: usize, len: usize) -> Result<Region, AttachError> {
        let need = skip.saturating_add(len);
        if need > self.len {
            let have = self.len;
            return Err(AttachError::TooShort { need, have });
        }
        self.mapping.region(self.start + skip, len)
    }

    /// Loads a word, as a device may. Words are little-endian in memory on every machine.
    ///
    /// # Panics
    /// If the word is outside, or `order` is not valid for a load.
    #[inline]
    pub fn load(&self, word: usize, order: Ordering) -> u32 {
        self.pages.words::<1>(self.place(word)).load(0, order)
    }

    /// Stores a word without the knowledge of either end, as a hostile device may.
    ///
    /// # Panics
    /// If the word is outside, or `order` is not valid for a store.
    #[inline]
    pub fn store(&self, word: usize, value: u32, order: Ordering) {
        self.pages
            .words::<1>(self.place(word))
            .store(0, value, order);
    }

    /// Returns whether the bytes between the memory and the guard pages are unchanged.
    pub fn is_intact(&self) -> bool {
        self.slack()
            .all(|word| self.pages.words::<1>(word).load(0, Ordering::Relaxed) == SLACK)
    }

    /// Converts the index of a word in the memory to its index in the pages.
    #[inline]
    fn place(&self, word: usize) -> usize {
        assert!(word < self.len / WORD, "word {word} is outside the memory");
        self.start / WORD + word
    }

    /// Returns the words of the pages that lie outside the memory.
    fn slack(&self) -> impl Iterator<Item = usize> {
        let end = (self.start + self.len).div_ceil(WORD);
        (0..self.start / WORD).chain(end..self.mapping.len / WORD)
    }
}

/// Whole pages, between guard pages except under Miri.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    len: usize,
    #[cfg(miri)]
    _pages: Region,
}

// SAFETY: an address and a length. The memory is accessed through regions alone, which are sound to use
// from any thread.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Returns the region of a part of the pages. Callers check its end.
    fn region(self: &Arc<Self>, skip: usize, len: usize) -> Result<Region, AttachError> {
        debug_assert!(skip + len <= self.len);
        // SAFETY: `skip` bytes from `base` is inside the pages or their end.
        let base = unsafe { self.base.add(skip) };
        // SAFETY: the bytes are mapped while the mapping lives, which the region keeps alive, and they are
        // accessed through regions alone.
        unsafe { Region::from_owner(base, len, Arc::clone(self)) }
    }
}

#[cfg(not(miri))]
impl Mapping {
    fn new(len: usize) -> Option<Self> {
        use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};

        let page = page_size();
        let len = len.checked_next_multiple_of(page)?;
        let whole = len.checked_add(2 * page)?;
        let (none, flags) = (ProtFlags::empty(), MapFlags::PRIVATE);
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let first = unsafe { mmap_anonymous(core::ptr::null_mut(), whole, none, flags) }.ok()?;
        let base = NonNull::new(first.cast::<u8>().wrapping_add(page))?;
        let mapping = Self { base, len };
        let access = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: the pages between the first and the last of the mapping just made, which nothing
        // refers to yet.
        unsafe { mprotect(base.as_ptr().cast(), len, access) }.ok()?;
        Some(mapping)
    }
}

#[cfg(not(miri))]
impl Drop for Mapping {
    fn drop(&mut self) {
        let page = page_size();
        let first = self.base.as_ptr().wrapping_sub(page);
        // SAFETY: exactly what `new` mapped. Regions in it keep the mapping alive, so that none is left.
        let unmapped = unsafe { rustix::mm::munmap(first.cast(), self.len + 2 * page) };
        debug_assert!(unmapped.is_ok());
    }
}

#[cfg(not(miri))]
fn page_size() -> usize {
    rustix::param::page_size()
}

#[cfg(miri)]
impl Mapping {
    fn new(len: usize) -> Option<Self> {
        let len = len.checked_next_multiple_of(page_size())?;
        let pages = Region::allocate(len).ok()?;
        let base = NonNull::new(pages.as_ptr())?;
        let _pages = pages;
        Some(Self { base, len, _pages })
    }
}

#[cfg(miri)]
fn page_size() -> usize {
    crate::abi::HEADER_ALIGN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_into_the_rest_of_a_page_is_noticed() {
        for make in [GuardedMemory::new, GuardedMemory::at_end] {
            let memory = make(96).expect("memory");
            for word in 0..24 {
                memory.store(word, 1, Ordering::Relaxed);
            }
            assert!(memory.is_intact());
            let beside = memory.slack().next().expect("a rest");
            let beside = memory.pages.words::<1>(beside);
            beside.store(0, 1, Ordering::Relaxed);
            assert!(!memory.is_intact());
        }
    }
}

#[cfg(all(test, not(miri)))]
mod fault_tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::string::String;

    const ACCESS: &str = "VYRE_IOQ_TEST_ACCESS";
    const SIGSEGV: i32 = 11;

    /// Runs in a child process, which must end at the access.
    #[test]
    fn accesses_outside() {
        let Ok(which) = std::env::var(ACCESS) else {
            return;
        };
        let page = page_size();
        let (before, after) = (-4, page as isize);
        let (make, at): (fn(usize) -> _, isize) = match which.as_str() {
            "first" => (GuardedMemory::new, 0),
            "last" => (GuardedMemory::new, after - 4),
            "before" => (GuardedMemory::new, before),
            "after" => (GuardedMemory::new, after),
            other => panic!("{other} is no access"),
        };
        let memory = make(page).expect("memory");
        let address = memory.region().as_ptr().wrapping_offset(at).cast::<u32>();
        // SAFETY: inside the memory it is a load of an aligned word that nobody stores; outside it
        // ends the process, which was started for that.
        let word = unsafe { address.read_volatile() };
        assert_eq!(word, 0);
    }

    #[test]
    fn an_access_outside_ends_the_process() {
        let own = std::env::current_exe().expect("this test");
        for (which, signal) in [
            ("first", None),
            ("last", None),
            ("before", Some(SIGSEGV)),
            ("after", Some(SIGSEGV)),
        ] {
            let output = Command::new(&own)
                .args([
                    "--exact",
                    "test_utils::guard::fault_tests::accesses_outside",
                ])
                .env(ACCESS, which)
                .output()
                .expect("started");
            let text = String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.signal(), signal, "{which}: {text}");
            assert!(
                signal.is_some() || text.contains("1 passed"),
                "{which}: {text}"
            );
        }
    }
}
