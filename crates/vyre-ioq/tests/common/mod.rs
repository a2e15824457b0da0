//! Memory that a test can read, and store into as a hostile device can.

#![expect(
    unsafe_code,
    reason = "tests share plain memory that a queue must order"
)]
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

use vyre_ioq::test_utils::GuardedMemory;
use vyre_ioq::{
    AttachError, BufferHandle, DeviceQueue, FileHandle, HostQueue, Queue, QueueLayout, Region,
    Request,
};

pub(crate) const WORD: usize = 4;

/// Zeroed words between guard pages.
#[derive(Clone)]
pub(crate) struct Memory(GuardedMemory);

impl Memory {
    pub(crate) fn new(len: usize) -> Self {
        Self::starting_at(0, len)
    }

    pub(crate) fn starting_at(start: usize, len: usize) -> Self {
        Self(GuardedMemory::starting_at(start * WORD, len).expect("memory"))
    }

    pub(crate) fn region(&self) -> Region {
        self.0.region()
    }

    /// Returns `len` bytes from `skip` bytes on, whatever their alignment.
    pub(crate) fn try_region(&self, skip: usize, len: usize) -> Result<Region, AttachError> {
        self.0.try_region(skip, len)
    }

    pub(crate) fn load(&self, word: usize) -> u32 {
        self.0.load(word, Ordering::Relaxed)
    }

    pub(crate) fn store(&self, word: usize, value: u32) {
        self.0.store(word, value, Ordering::Relaxed);
    }

    pub(crate) fn store_all(&self, first: usize, values: &[u32]) {
        for (word, &value) in values.iter().enumerate() {
            self.store(first + word, value);
        }
    }

    /// Returns `N` bytes in memory order, from byte `first` on.
    pub(crate) fn bytes<const N: usize>(&self, first: usize) -> [u8; N] {
        core::array::from_fn(|byte| {
            let (word, byte) = ((first + byte) / WORD, (first + byte) % WORD);
            self.load(word).to_le_bytes()[byte]
        })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        assert!(
            std::thread::panicking() || self.0.is_intact(),
            "something was stored outside the memory"
        );
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

/// Returns both ends of a queue with a header.
pub(crate) fn queue(slots: u32) -> (HostQueue, DeviceQueue) {
    Queue::anonymous(QueueLayout::with_slots(slots)).expect("memory")
}

/// Returns a READ of no file in particular.
pub(crate) fn read(tag: u32) -> Request {
    Request::read(FileHandle::from_raw(1), 0, 512)
        .into_buffer(BufferHandle::from_raw(1), 0)
        .with_tag(tag)
}

pub(crate) fn fence(tag: u32) -> Request {
    Request::fence().with_tag(tag)
}

/// Claims all published requests and returns their slots.
pub(crate) fn claim(host: &mut HostQueue) -> Vec<u32> {
    let mut slots = Vec::new();
    let many = host.claim_published(0..u32::MAX, |claim| slots.push(claim.slot));
    assert_eq!(many as usize, slots.len());
    slots
}

/// Completes all published requests, each with the number of its slot as its count.
pub(crate) fn serve(host: &mut HostQueue) {
    for slot in claim(host) {
        host.complete(slot, Ok(slot)).expect("owed");
    }
}

/// Ends a helper thread of a test, even if the test panics.
pub(crate) struct SetOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Mixes 64 bits cheaply, for patterns and checksums.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x = (x ^ (x >> 29)).wrapping_mul(0xa076_1d64_78bd_642f);
    x ^ (x >> 32)
}

/// Returns a checksum over every word of a READ that a layout carries, except its buffer handle.
pub(crate) fn checksum(request: &Request) -> u32 {
    let words = [
        u64::from(request.op().word()) << 32 | u64::from(request.file().raw()),
        request.file_offset(),
        u64::from(request.count()) << 32 | u64::from(request.tag()),
        request.buffer_offset(),
        u64::from(request.flags().bits()) << 32 | u64::from(request.deadline()),
    ];
    words.iter().fold(1, |sum, &word| mix(sum ^ word)) as u32
}

/// Returns the names of the variants of `AttachError` in its source.
pub(crate) fn attach_error_variants() -> Vec<String> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/error.rs");
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
