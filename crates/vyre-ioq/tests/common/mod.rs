//! Memory that a test can look into, and store into behind a queue's back, as a hostile device can.

#![allow(unsafe_code)] // Raw words, `Region::from_owner`, plain memory that a queue has to order.
#![allow(dead_code)] // Every test file compiles its own copy and uses a part of it.

use std::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use vyre_ioq::{AttachError, Region, Request};

pub(crate) const WORD: usize = 4;
const PAGE_WORDS: usize = 1024;

#[repr(C, align(4096))]
struct Page([AtomicU32; PAGE_WORDS]);

/// Zeroed words: `len` bytes that begin `start` words after a page boundary.
#[derive(Clone)]
pub(crate) struct Memory {
    pages: Arc<[Page]>,
    start: usize,
    len: usize,
}

impl Memory {
    pub(crate) fn new(len: usize) -> Self {
        Self::starting_at(0, len)
    }

    pub(crate) fn starting_at(start: usize, len: usize) -> Self {
        let pages = (start + len.div_ceil(WORD)).div_ceil(PAGE_WORDS).max(1);
        Self {
            pages: (0..pages)
                .map(|_| Page([const { AtomicU32::new(0) }; PAGE_WORDS]))
                .collect(),
            start,
            len,
        }
    }

    pub(crate) fn region(&self) -> Region {
        self.try_region(0, self.len).expect("aligned to a word")
    }

    /// `len` bytes from `skip` bytes on, whatever their alignment.
    pub(crate) fn try_region(&self, skip: usize, len: usize) -> Result<Region, AttachError> {
        assert!(skip + len <= self.len, "inside the memory");
        let pages: *const Page = self.pages.as_ptr();
        let base = pages
            .cast::<u8>()
            .cast_mut()
            .wrapping_add(self.start * WORD + skip);
        let base = NonNull::new(base).expect("an allocation");
        // SAFETY: the bytes are atomics inside the pages (`start`, `skip` and `len` were checked
        // against them), which live as long as the `Arc` handed over and do not move with it.
        unsafe { Region::from_owner(base, len, Arc::clone(&self.pages)) }
    }

    pub(crate) fn load(&self, word: usize) -> u32 {
        u32::from_le(self.word(word).load(Ordering::Relaxed))
    }

    pub(crate) fn store(&self, word: usize, value: u32) {
        self.word(word).store(value.to_le(), Ordering::Relaxed);
    }

    pub(crate) fn store_all(&self, first: usize, values: &[u32]) {
        for (word, &value) in values.iter().enumerate() {
            self.store(first + word, value);
        }
    }

    /// `N` bytes as they lie in memory, from byte `first` on.
    pub(crate) fn bytes<const N: usize>(&self, first: usize) -> [u8; N] {
        core::array::from_fn(|byte| {
            let (word, byte) = ((first + byte) / WORD, (first + byte) % WORD);
            self.word(word).load(Ordering::Relaxed).to_ne_bytes()[byte]
        })
    }

    fn word(&self, word: usize) -> &AtomicU32 {
        assert!(word < self.len.div_ceil(WORD), "word {word} is outside");
        // Not by indexing: a reference to all pages at every access makes Miri crawl.
        let first: *const AtomicU32 = Arc::as_ptr(&self.pages).cast();
        // SAFETY: pages are atomics throughout, the word is inside them, and `self` keeps them.
        unsafe { &*first.wrapping_add(self.start + word) }
    }
}

/// Plain memory that both ends of a queue use in turn, as they use the buffers of a request. It is
/// safe to use only if the queue orders the two: where it does not, Miri reports a data race.
#[derive(Default)]
pub(crate) struct Plain(UnsafeCell<u32>);

// SAFETY: whoever shares one claims to have the queue order every access: that is what is tested.
unsafe impl Sync for Plain {}

impl Plain {
    pub(crate) fn get(&self) -> u32 {
        // SAFETY: as claimed on `Sync`.
        unsafe { *self.0.get() }
    }

    pub(crate) fn set(&self, value: u32) {
        // SAFETY: as claimed on `Sync`.
        unsafe { *self.0.get() = value };
    }
}

/// Ends a helper thread of a test, also when the test panics.
pub(crate) struct SetOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A few bits of everything: a cheap 64-bit mix for patterns and checksums.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x = (x ^ (x >> 29)).wrapping_mul(0xa076_1d64_78bd_642f);
    x ^ (x >> 32)
}

/// A number over every word of a request that a layout carries, but for the one in `destination`.
pub(crate) fn checksum(request: &Request) -> u32 {
    let words = [
        u64::from(request.op as u32) << 32 | u64::from(request.source),
        request.file_offset,
        u64::from(request.count) << 32 | u64::from(request.tag),
        request.buffer_offset,
        u64::from(request.flags.bits()) << 32 | u64::from(request.deadline),
    ];
    words.iter().fold(1, |sum, &word| mix(sum ^ word)) as u32
}

/// Names of the variants of `AttachError`, as its source has them.
pub(crate) fn attach_error_variants() -> Vec<String> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/attach.rs");
    let text = std::fs::read_to_string(source).expect("the crate's own source");
    let (_, body) = text.split_once("pub enum AttachError {\n").expect("enum");
    let (body, _) = body.split_once("\n}\n").expect("end of enum");
    body.lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(|line| {
            line.trim_end_matches(|c: char| !c.is_ascii_alphanumeric())
                .to_owned()
        })
        .collect()
}
