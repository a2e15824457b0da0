//! Slots in shared memory with the words of the original loop, which the bare servers use too.

#![expect(
    unsafe_code,
    reason = "the words lie in memory that the original loop's process maps"
)]

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use vyre_io::{Buffer, BufferError, Errno};

use crate::lane::{Device, Work};

/// Words of a slot of the original loop, after which the next begins.
const ORIGINAL_STRIDE: usize = 8;
/// A bare slot has a cache line to itself.
const STRIDE: usize = 16;

const OP: usize = 0;
const SOURCE: usize = 1;
const DESTINATION: usize = 2;
const OFFSET_LOW: usize = 3;
const OFFSET_HIGH: usize = 4;
const COUNT: usize = 5;
const STATUS: usize = 6;

const READ: u32 = 1;
const PUBLISHED: u32 = 1;
const OK: u32 = 0x10;
const ERROR: u32 = 0x11;

/// Slots in shared memory. The slot number is the place of its block.
pub(crate) struct Slots {
    memory: Buffer,
    stride: usize,
    count: u32,
}

impl Slots {
    /// Slots for a server in this process.
    pub(super) fn private(count: u32) -> Result<Self, BufferError> {
        Ok(Self {
            memory: Buffer::anonymous(count as usize * STRIDE * size_of::<u32>())?,
            stride: STRIDE,
            count,
        })
    }

    /// Slots for the original loop in another process, and the memory that holds them.
    pub(crate) fn shared(count: u32) -> Result<(Self, OwnedFd), BufferError> {
        let stride = ORIGINAL_STRIDE;
        let (memory, memfd) = Buffer::memfd(count as usize * stride * size_of::<u32>())?;
        let slots = Self {
            memory,
            stride,
            count,
        };
        Ok((slots, memfd))
    }

    pub(super) const fn count(&self) -> u32 {
        self.count
    }

    #[inline]
    fn word(&self, slot: u32, word: usize) -> &AtomicU32 {
        let index = slot as usize * self.stride + word;
        assert!(index * size_of::<u32>() < self.memory.len(), "a slot");
        let word = self.memory.as_ptr().cast::<u32>().wrapping_add(index);
        // SAFETY: the word is inside the buffer, which is aligned to pages and lives as long as `self`.
        // Every process accesses it by atomics of this size alone.
        unsafe { AtomicU32::from_ptr(word) }
    }

    /// Returns the offset that a slot asks for, if it is published. The acquire load pairs with the
    /// release store of `publish`.
    #[inline]
    pub(super) fn published(&self, slot: u32) -> Option<u64> {
        if self.word(slot, STATUS).load(Ordering::Acquire) != PUBLISHED {
            return None;
        }
        let word = |word| u64::from(self.word(slot, word).load(Ordering::Relaxed));
        Some(word(OFFSET_LOW) | word(OFFSET_HIGH) << 32)
    }

    /// Publishes the outcome of a slot. The release store pairs with the acquire load of `take`.
    #[inline]
    pub(super) fn complete(&self, slot: u32, success: bool) {
        let status = if success { OK } else { ERROR };
        self.word(slot, STATUS).store(status, Ordering::Release);
    }
}

/// The device end. Words that every request has in common are stored once.
pub(crate) struct Lane<'a> {
    slots: &'a Slots,
    size: u32,
}

impl<'a> Lane<'a> {
    pub(super) fn new(slots: &'a Slots, work: &Work) -> Self {
        Self {
            slots,
            size: work.size,
        }
    }

    /// The original takes a descriptor of its own process as the source, and a handle for each place.
    pub(crate) fn of_original(slots: &'a Slots, work: &Work, descriptor: u32) -> Self {
        let words = [(OP, READ), (SOURCE, descriptor), (COUNT, work.size)];
        for slot in 0..slots.count {
            for (word, value) in words.into_iter().chain([(DESTINATION, slot)]) {
                slots.word(slot, word).store(value, Ordering::Relaxed);
            }
        }
        Self::new(slots, work)
    }
}

impl Device for Lane<'_> {
    #[inline]
    fn publish(&mut self, place: u32, offset: u64) {
        let word = |word| self.slots.word(place, word);
        word(OFFSET_LOW).store(offset as u32, Ordering::Relaxed);
        word(OFFSET_HIGH).store((offset >> 32) as u32, Ordering::Relaxed);
        // Pairs with the acquire load of `published`.
        word(STATUS).store(PUBLISHED, Ordering::Release);
    }

    /// The acquire load pairs with the release store of `complete`.
    #[inline]
    fn take(&mut self, place: u32) -> Option<Result<u32, Errno>> {
        match self.slots.word(place, STATUS).load(Ordering::Acquire) {
            OK => Some(Ok(self.size)),
            ERROR => Some(Err(Errno::EIO)),
            _ => None,
        }
    }
}
