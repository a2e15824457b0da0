//! A thread that reads in a part of a mapping.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

use rustix::io::Errno;

use crate::mapping::Mapping;

/// The number of bytes that are read in between two looks at the order to stop.
const PIECE: u64 = 16 << 20;

/// The way in which a [`Populating`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Populated {
    /// All pages of the part were in memory and mapped.
    All,
    /// It was cancelled. The pages before this offset of the file were in memory and mapped.
    Cancelled {
        /// The offset in bytes.
        at: u64,
    },
}

/// A thread that has the kernel read a part of a mapping into the page cache, and map its pages, in pieces of
/// 16 MiB. It tells how far it is, and can be cancelled between two pieces.
///
/// A drop cancels it without waiting.
#[derive(Debug)]
pub struct Populating {
    shared: Arc<Shared>,
    part: Range<u64>,
    thread: Option<JoinHandle<Result<Populated, Errno>>>,
}

#[derive(Debug, Default)]
struct Shared {
    done: AtomicU64,
    stop: AtomicBool,
}

impl Populating {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the kernel starts no thread.
    pub fn spawn(mapping: Arc<Mapping>, part: Range<u64>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let populate = {
            let (shared, part) = (Arc::clone(&shared), part.clone());
            move || shared.populate(&mapping, &part)
        };
        let thread = thread::Builder::new()
            .name("vyre-populate".to_owned())
            .spawn(populate)?;
        Ok(Self {
            shared,
            part,
            thread: Some(thread),
        })
    }

    /// Returns the part of the file, in bytes.
    pub fn part(&self) -> Range<u64> {
        self.part.clone()
    }

    /// Returns how many bytes of the part are in memory and mapped.
    pub fn done(&self) -> u64 {
        // Relaxed: the number is a hint.
        self.shared.done.load(Relaxed)
    }

    /// Has the thread end after the present piece.
    pub fn cancel(&self) {
        // Relaxed: the flag guards no other memory.
        self.shared.stop.store(true, Relaxed);
    }

    /// Returns whether the thread has ended, so that [`wait`](Self::wait) returns at once.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the end of the thread.
    ///
    /// # Errors
    /// The same as for [`Mapping::populate`]. What comes before the error is mapped.
    pub fn wait(mut self) -> Result<Populated, Errno> {
        // The thread calls nothing that panics.
        let ended = self.thread.take().map(JoinHandle::join);
        ended.and_then(Result::ok).unwrap_or(Err(Errno::IO))
    }
}

impl Shared {
    fn populate(&self, mapping: &Mapping, part: &Range<u64>) -> Result<Populated, Errno> {
        let mut at = part.start;
        loop {
            // Relaxed: as in `cancel`.
            if self.stop.load(Relaxed) {
                return Ok(Populated::Cancelled { at });
            }
            let end = part.end.min(at.saturating_add(PIECE));
            mapping.populate(at..end)?;
            at = end;
            // Relaxed: as in `done`.
            self.done.store(at - part.start, Relaxed);
            if at == part.end {
                return Ok(Populated::All);
            }
        }
    }
}

impl Drop for Populating {
    fn drop(&mut self) {
        self.cancel();
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;

    fn mapping(len: u64) -> Arc<Mapping> {
        let file = memfd_create("vyre-mapped", MemfdFlags::empty()).unwrap();
        ftruncate(&file, len).unwrap();
        Arc::new(Mapping::new(&file, 0..len).unwrap())
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn all_pages_of_the_part_are_mapped_and_no_others() {
        let page = Mapping::page_size();
        let len = 2 * PIECE + 3 * page;
        let mapping = mapping(len);
        let part = page..len - page;
        let populating = Populating::spawn(Arc::clone(&mapping), part.clone()).unwrap();
        let shared = Arc::clone(&populating.shared);
        assert_eq!(populating.part(), part);
        assert_eq!(populating.wait(), Ok(Populated::All));
        assert_eq!(shared.done.load(Relaxed), part.end - part.start);
        assert_eq!(mapping.first_unmapped(part.clone()), Ok(None));
        assert_eq!(mapping.first_unmapped(0..len), Ok(Some(0)));
        assert_eq!(
            mapping.first_unmapped(part.start..len),
            Ok(Some(len - page))
        );
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn one_that_is_cancelled_says_how_far_it_came() {
        let mapping = mapping(PIECE);
        let shared = Shared::default();
        shared.stop.store(true, Relaxed);
        let ended = shared.populate(&mapping, &(5..PIECE));
        assert_eq!(ended, Ok(Populated::Cancelled { at: 5 }));
        assert_eq!(mapping.first_unmapped(0..PIECE), Ok(Some(0)));
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn an_error_ends_it() {
        let mapping = mapping(PIECE);
        let outside = Populating::spawn(mapping, 0..PIECE + 1).unwrap();
        assert_eq!(outside.wait(), Err(Errno::INVAL));
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn a_drop_cancels() {
        let populating = Populating::spawn(mapping(PIECE), 0..PIECE).unwrap();
        let shared = Arc::clone(&populating.shared);
        drop(populating);
        assert!(shared.stop.load(Relaxed));
    }
}
