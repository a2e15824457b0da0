//! Memory that two processes share: a memfd, mapped here word by word.

#![expect(
    unsafe_code,
    reason = "maps memory whose words another process may store at any time"
)]

use std::ffi::c_void;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::thread::futex::{self, Flags};
use vyre_ioq::{AttachError, Region};

const WORD: usize = size_of::<u32>();
const PAGE: usize = 4096;

struct Mapping {
    base: NonNull<c_void>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread, and its bytes are accessed as atomic
// words alone.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are those of the mapping, and the last name of it goes here.
        unsafe { munmap(self.base.as_ptr(), self.len) }.expect("own mapping");
    }
}

/// A file in memory that child processes inherit, and a mapping of all of it.
#[derive(Clone)]
pub(crate) struct Shared {
    file: Arc<OwnedFd>,
    mapping: Arc<Mapping>,
}

impl Shared {
    /// Zeroed memory of at least `len` bytes.
    pub(crate) fn new(len: usize) -> Self {
        // Not close-on-exec: that a driver inherits it is the point.
        let file = rustix::fs::memfd_create("conformance", MemfdFlags::empty()).expect("a memfd");
        let len = len.next_multiple_of(PAGE).max(PAGE);
        rustix::fs::ftruncate(&file, len as u64).expect("room");
        Self::of(file)
    }

    /// Maps the whole file behind a descriptor of this process.
    pub(crate) fn open(number: i32) -> std::io::Result<Self> {
        let path = format!("/proc/self/fd/{number}");
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Self::of(file.into()))
    }

    fn of(file: OwnedFd) -> Self {
        let len = rustix::fs::fstat(&file).expect("a length").st_size as usize;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe { mmap(ptr::null_mut(), len, protection, MapFlags::SHARED, &file, 0) };
        let base = NonNull::new(base.expect("a mapping")).expect("an address");
        Self {
            file: Arc::new(file),
            mapping: Arc::new(Mapping { base, len }),
        }
    }

    pub(crate) fn number(&self) -> i32 {
        self.file.as_raw_fd()
    }

    pub(crate) fn len(&self) -> usize {
        self.mapping.len
    }

    /// `len` bytes from byte `offset` on, whatever their alignment.
    pub(crate) fn region(&self, offset: usize, len: usize) -> Result<Region, AttachError> {
        assert!(offset + len <= self.len(), "inside the memory");
        let base: NonNull<u8> = self.mapping.base.cast();
        // SAFETY: inside the mapping, as was just checked.
        let base = unsafe { base.add(offset) };
        // SAFETY: the bytes are readable and writable for as long as the mapping, which the region
        // keeps; this process accesses them as atomic words alone.
        unsafe { Region::from_owner(base, len, Arc::clone(&self.mapping)) }
    }

    pub(crate) fn clear(&self) {
        for word in 0..self.len() / WORD {
            self.store(word, 0);
        }
    }

    /// Acquire, so that earlier stores of another process are visible.
    pub(crate) fn load(&self, word: usize) -> u32 {
        u32::from_le(self.word(word).load(Ordering::Acquire))
    }

    pub(crate) fn store(&self, word: usize, value: u32) {
        self.word(word).store(value.to_le(), Ordering::Release);
    }

    pub(crate) fn words<const N: usize>(&self, first: usize) -> [u32; N] {
        core::array::from_fn(|word| self.load(first + word))
    }

    /// Waits on a word as on a futex, while it holds `expected` and at most 100 ms. Returns whether a wake-up ended the
    /// wait.
    pub(crate) fn wait_futex(&self, word: usize, expected: u32) -> bool {
        let limit = rustix::thread::Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        let word = self.word(word);
        futex::wait(word, Flags::empty(), expected.to_le(), Some(&limit)).is_ok()
    }

    /// Wakes a thread that waits on a word. Returns whether there was one.
    pub(crate) fn wake_futex(&self, word: usize) -> bool {
        futex::wake(self.word(word), Flags::empty(), 1) == Ok(1)
    }

    fn word(&self, word: usize) -> &AtomicU32 {
        assert!((word + 1) * WORD <= self.len(), "word {word} is outside");
        let base: NonNull<AtomicU32> = self.mapping.base.cast();
        // SAFETY: inside the mapping, as was just checked.
        let word = unsafe { base.add(word) };
        // SAFETY: aligned, valid while `self` keeps the mapping, and accessed atomically throughout.
        unsafe { word.as_ref() }
    }
}
