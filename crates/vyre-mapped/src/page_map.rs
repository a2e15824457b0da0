//! A bit for each page, which threads share without a lock.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The number of pages in a word of the map.
pub(crate) const PAGES: usize = u64::BITS as usize;

/// The pages that are in memory, as far as is known. All orderings are relaxed: the bits are hints, and guard
/// no other memory.
#[derive(Debug)]
pub(crate) struct PageMap {
    words: Box<[AtomicU64]>,
}

impl PageMap {
    /// Creates a map of this many pages, none of which is in memory.
    pub(crate) fn new(pages: usize) -> Self {
        let words = (0..pages.div_ceil(PAGES)).map(|_| AtomicU64::new(0));
        Self {
            words: words.collect(),
        }
    }

    /// Returns whether all of these pages are in memory.
    ///
    /// # Panics
    /// If a page is outside the map.
    #[inline(always)]
    pub(crate) fn contains(&self, pages: Range<usize>) -> bool {
        let (word, first) = (pages.start / PAGES, pages.start % PAGES);
        let count = pages.end.saturating_sub(pages.start);
        // The usual case: the pages of a short read lie in one word.
        if 0 < count && count <= PAGES - first {
            let mask = u64::MAX >> (PAGES - count) << first;
            return self.words[word].load(Relaxed) & mask == mask;
        }
        masks(pages).all(|(word, mask)| self.words[word].load(Relaxed) & mask == mask)
    }

    /// Notes that these pages are not in memory.
    ///
    /// # Panics
    /// If a page is outside the map.
    pub(crate) fn forget(&self, pages: Range<usize>) {
        for (word, mask) in masks(pages) {
            self.words[word].fetch_and(!mask, Relaxed);
        }
    }

    /// Replaces the bits of a word. Returns those that are new.
    ///
    /// # Panics
    /// If the word is outside the map.
    pub(crate) fn replace(&self, word: usize, bits: u64) -> u64 {
        bits & !self.words[word].swap(bits, Relaxed)
    }

    /// Returns the number of pages that are in memory.
    pub(crate) fn count(&self) -> usize {
        let ones = self
            .words
            .iter()
            .map(|word| word.load(Relaxed).count_ones());
        ones.sum::<u32>() as usize
    }
}

/// Returns each word of a range of pages, with the bits of the pages.
#[inline]
fn masks(pages: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let mut page = pages.start;
    std::iter::from_fn(move || {
        if page >= pages.end {
            return None;
        }
        let count = (pages.end - page).min(PAGES - page % PAGES);
        let mask = (u64::MAX >> (PAGES - count)) << (page % PAGES);
        let word = page / PAGES;
        page += count;
        Some((word, mask))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    #[test]
    fn every_range_of_three_words_has_its_bits() {
        let step = if cfg!(miri) { 31 } else { 1 };
        for start in (0..=3 * PAGES).step_by(step) {
            for end in (start..=3 * PAGES).step_by(step) {
                let map = PageMap::new(3 * PAGES);
                for word in 0..3 {
                    assert_eq!(map.replace(word, u64::MAX), u64::MAX);
                }
                map.forget(start..end);
                assert_eq!(map.count(), 3 * PAGES - (end - start));
                assert!(map.contains(0..start) && map.contains(end..3 * PAGES));
                assert_eq!(map.contains(start..end), start == end);
                for page in (start..end).step_by(step) {
                    assert!(!map.contains(page..page + 1), "{page} of {start}..{end}");
                }
            }
        }
    }

    #[test]
    fn only_bits_that_were_not_set_are_new() {
        let map = PageMap::new(PAGES + 1);
        assert_eq!(map.replace(1, 0b0110), 0b0110);
        assert_eq!(map.replace(1, 0b1100), 0b1000);
        assert_eq!(map.replace(0, 1), 1);
        assert_eq!(map.count(), 3);
    }

    /// A scan replaces words while copies ask and forget.
    #[test]
    fn threads_share_a_map() {
        let rounds = if cfg!(miri) { 50 } else { 100_000 };
        let map = PageMap::new(2 * PAGES);
        let stop = AtomicBool::new(false);
        // In every state, page 0 is in memory and page 1 is not.
        map.replace(0, 1);
        thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..rounds {
                    let others = if round % 2 == 0 { u64::MAX << 2 } else { 0 };
                    map.replace(0, others | 1);
                    map.replace(1, others);
                }
                stop.store(true, Relaxed);
            });
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    map.forget(2..2 * PAGES);
                    thread::yield_now();
                }
            });
            while !stop.load(Relaxed) {
                assert!(map.contains(0..1));
                assert!(!map.contains(0..2 * PAGES));
                thread::yield_now();
            }
        });
        map.forget(0..2 * PAGES);
        assert_eq!(map.count(), 0);
    }
}
