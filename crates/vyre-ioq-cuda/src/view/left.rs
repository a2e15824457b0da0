//! The part of a file that is still to be loaded.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vyre_uring::vyre_mapped::Mapping;

/// A range of which threads take parts, from its start on, each byte once.
///
/// Parts end at pages, or with the range.
#[derive(Debug)]
pub(super) struct Left(Mutex<Range<u64>>);

impl Left {
    pub(super) const fn new(range: Range<u64>) -> Self {
        Self(Mutex::new(range))
    }

    fn lock(&self) -> MutexGuard<'_, Range<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes at most `most` bytes, fewer if not much is left, but not fewer than `fewest` while there are as many. Both are
    /// multiples of the page size.
    pub(super) fn take(&self, fewest: u64, most: u64) -> Option<Range<u64>> {
        let mut left = self.lock();
        let Range { start, end } = *left;
        if start >= end {
            return None;
        }
        let page = Mapping::page_size();
        let len = ((end - start) / 4).clamp(fewest, most);
        let first = start - start % page;
        let until = (first.saturating_add(len) / page * page).min(end);
        left.start = until;
        Some(start..until)
    }

    /// Puts back what was taken last.
    pub(super) fn put_back(&self, part: &Range<u64>) {
        let mut left = self.lock();
        // After a failure of another thread, nothing is to be taken.
        if left.start == part.end {
            left.start = part.start;
        }
    }

    /// Leaves nothing to take.
    pub(super) fn clear(&self) {
        *self.lock() = u64::MAX..u64::MAX;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: u64 = 2 << 20;

    #[test]
    fn each_byte_is_taken_once_in_parts_that_end_at_pages() {
        let page = Mapping::page_size();
        let ends = [
            1,
            4095,
            4096,
            4097,
            2 << 20,
            (2 << 20) + 1,
            (70 << 20) + 5,
            1 << 30,
        ];
        for start in [0, 5, 4096, (32 << 20) - 1] {
            for len in ends {
                let range = start..start + len;
                let left = Left::new(range.clone());
                let mut at = start;
                for turn in 0.. {
                    let part = if turn % 3 == 0 {
                        left.take(PIECE, PIECE)
                    } else {
                        left.take(16 << 20, 128 << 20)
                    };
                    let Some(part) = part else { break };
                    assert_eq!(part.start, at, "{range:?}");
                    assert!(part.end > at && part.end - at <= 128 << 20, "{part:?}");
                    assert!(
                        part.end == range.end || part.end.is_multiple_of(page),
                        "{part:?}"
                    );
                    at = part.end;
                }
                assert_eq!(at, range.end);
            }
        }
    }

    #[test]
    fn the_last_parts_are_small() {
        let left = Left::new(0..1 << 30);
        let lengths: Vec<_> = std::iter::from_fn(|| left.take(16 << 20, 128 << 20))
            .map(|part| part.end - part.start)
            .collect();
        assert_eq!(lengths[0], 128 << 20);
        assert!(*lengths.last().unwrap() <= 16 << 20, "{lengths:?}");
    }

    #[test]
    fn what_was_put_back_is_taken_again_unless_another_thread_has_failed() {
        let left = Left::new(0..1 << 20);
        let part = left.take(1 << 20, 1 << 20).unwrap();
        left.put_back(&part);
        assert_eq!(left.take(1 << 20, 1 << 20), Some(part.clone()));
        let left = Left::new(0..1 << 20);
        left.take(1 << 20, 1 << 20);
        left.clear();
        left.put_back(&part);
        assert_eq!(left.take(4096, 4096), None);
    }
}
