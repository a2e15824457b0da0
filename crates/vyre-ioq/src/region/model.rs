//! Shared memory under loom: each word is a cell of its own, since loom's atomics are larger than a word.
//!
//! It has everything that the two ends use. There are no bytes, and addresses have no meaning.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use loom::sync::atomic::AtomicU32;

use crate::abi;
use crate::error::AttachError;

const WORD: usize = size_of::<u32>();

/// Memory of a queue.
#[derive(Clone, Debug)]
pub struct Region {
    cells: Arc<[AtomicU32]>,
}

impl Region {
    /// Allocates `len` zeroed bytes.
    ///
    /// # Errors
    /// None. The result has the type of the real function.
    pub fn allocate(len: usize) -> Result<Self, AttachError> {
        let cells: Vec<_> = (0..len / WORD).map(|_| AtomicU32::new(0)).collect();
        Ok(Self {
            cells: cells.into(),
        })
    }

    /// Returns a region without memory.
    pub(crate) fn empty() -> Self {
        Self {
            cells: Arc::default(),
        }
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.cells.len() * WORD
    }

    /// Returns whether the region holds no word.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Returns an address that is aligned as a queue needs it and that nothing uses.
    pub fn as_ptr(&self) -> *mut u8 {
        core::ptr::without_provenance_mut(abi::HEADER_ALIGN)
    }

    /// Returns `N` words from `first` on.
    ///
    /// # Panics
    /// If a word is outside the region.
    pub(crate) fn words<const N: usize>(&self, first: usize) -> Words<'_, N> {
        Words(&self.cells[first..first + N])
    }
}

/// `N` shared words. Each access is to one whole word.
#[derive(Clone, Copy)]
pub(crate) struct Words<'r, const N: usize>(&'r [AtomicU32]);

impl<const N: usize> Words<'_, N> {
    pub(crate) fn load(self, word: usize, order: Ordering) -> u32 {
        self.0[word].load(order)
    }

    pub(crate) fn store(self, word: usize, value: u32, order: Ordering) {
        self.0[word].store(value, order);
    }

    /// Does nothing: the models have a futex of their own.
    pub(crate) fn wake_futex(self, _: usize, _: u32) {}
}
