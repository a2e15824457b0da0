//! Shared memory under loom: words as cells of their own, since loom's are larger than a word.
//!
//! As the real one in all that the two ends use; there are no bytes, and no address means anything.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use loom::sync::atomic::AtomicU32;

use crate::abi;
use crate::error::AttachError;

const WORD: usize = size_of::<u32>();

/// Memory that a queue lives in.
#[derive(Clone, Debug)]
pub struct Region {
    cells: Arc<[AtomicU32]>,
}

impl Region {
    /// Zeroed memory of `len` bytes.
    ///
    /// # Errors
    /// None: the result is that of the real one.
    pub fn allocate(len: usize) -> Result<Self, AttachError> {
        let cells: Vec<_> = (0..len / WORD).map(|_| AtomicU32::new(0)).collect();
        Ok(Self {
            cells: cells.into(),
        })
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.cells.len() * WORD
    }

    /// Whether the region holds no word at all.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// An address that is aligned as a queue needs it, and is nobody's.
    pub fn as_ptr(&self) -> *mut u8 {
        core::ptr::without_provenance_mut(abi::HEADER_ALIGN)
    }

    /// `N` words from `first` on.
    ///
    /// # Panics
    /// If they are not all inside the region.
    pub(crate) fn words<const N: usize>(&self, first: usize) -> Words<'_, N> {
        Words(&self.cells[first..first + N])
    }
}

/// `N` shared words, each accessed whole.
#[derive(Clone, Copy)]
pub(crate) struct Words<'r, const N: usize>(&'r [AtomicU32]);

impl<const N: usize> Words<'_, N> {
    pub(crate) fn load(self, word: usize, order: Ordering) -> u32 {
        self.0[word].load(order)
    }

    pub(crate) fn store(self, word: usize, value: u32, order: Ordering) {
        self.0[word].store(value, order);
    }
}
