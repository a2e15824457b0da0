//! Marks on the blocks of a file that were written.

use std::sync::atomic::{AtomicU64, Ordering};

/// Set of the blocks that were written since the file was last restored: one bit each.
#[derive(Debug)]
pub(super) struct Marks {
    bits: Box<[AtomicU64]>,
}

impl Marks {
    pub(super) fn new(blocks: u64) -> Self {
        let words = blocks.div_ceil(64) as usize;
        Self {
            bits: (0..words).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Relaxed: the threads that mark blocks are joined before the marks are read.
    #[inline]
    pub(super) fn mark(&self, block: u64) {
        let (word, bit) = (&self.bits[(block / 64) as usize], 1 << (block % 64));
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = u64> + '_ {
        (0_u64..).zip(&self.bits).flat_map(|(index, word)| {
            let word = word.load(Ordering::Relaxed);
            (0..64)
                .filter(move |bit| word & (1 << bit) != 0)
                .map(move |bit| index * 64 + bit)
        })
    }

    pub(super) fn count(&self) -> u64 {
        let ones = |word: &AtomicU64| u64::from(word.load(Ordering::Relaxed).count_ones());
        self.bits.iter().map(ones).sum()
    }

    pub(super) fn clear(&self) {
        for word in &self.bits {
            word.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_kept_until_they_are_cleared() {
        let marks = Marks::new(200);
        for block in [0, 63, 64, 199, 63] {
            marks.mark(block);
        }
        assert_eq!(marks.blocks().collect::<Vec<_>>(), [0, 63, 64, 199]);
        assert_eq!(marks.count(), 4);
        marks.clear();
        assert_eq!(marks.blocks().next(), None);
    }
}
