//! A thread that keeps maps of pages up to date.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rustix::param::page_size;

use crate::residency::Residency;

/// The largest number of bytes of one scan.
const STEP: u64 = 16 << 20;

/// The shortest rest after a scan.
const REST: Duration = Duration::from_millis(1);

/// The factor of the rest after a part of which less than half is in memory: few reads gain by what such a scan finds,
/// and it takes some forty times as long as one of a part that is.
const SPARSE: u32 = 4;

/// A thread that scans mappings over and over, part by part, at a limited rate. It also maps the pages
/// that it newly finds in memory, so that a copy has no page fault and the next scan is quicker.
///
/// Threads that copy ask the [`Residency`] and never wait for the watcher. The thread sleeps while there
/// is nothing to watch. It forgets a residency that nobody else holds, and unmaps the mapping if it was
/// the last to hold that. A dropped watcher ends after the scan that is under way. The drop does not wait
/// for the end.
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// The residencies that the thread has not seen.
    new: Mutex<Vec<Arc<Residency>>>,
}

impl Shared {
    fn take_new(&self) -> Vec<Arc<Residency>> {
        let mut new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *new)
    }
}

impl Watcher {
    /// Starts the thread. It rests after each scan, so that it uses `percent` of one processor at most,
    /// from 1 to 100; other values count as the nearest of these. It uses a quarter of that while less than half of
    /// what it scans is in memory. The first scan of a mapping is made at once, without rests.
    ///
    /// A scan of 1 GiB takes 0.5 ms where all pages are in memory, and up to 25 ms where none is.
    ///
    /// # Errors
    /// If the kernel starts no thread.
    pub fn spawn(percent: u32) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let watch = {
            let shared = shared.clone();
            move || Rounds::default().run(&shared, percent.clamp(1, 100))
        };
        let handle = thread::Builder::new()
            .name("vyre-residency".to_owned())
            .spawn(watch)?;
        Ok(Self {
            shared,
            thread: handle.thread().clone(),
        })
    }

    /// Has the thread keep a residency up to date.
    pub fn watch(&self, residency: Arc<Residency>) {
        let new = self.shared.new.lock();
        new.unwrap_or_else(PoisonError::into_inner).push(residency);
        self.thread.unpark();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Relaxed: the flag alone is passed, and `unpark` orders it.
        self.shared.stop.store(true, Relaxed);
        self.thread.unpark();
    }
}

/// The residencies of a watcher, and where it is.
#[derive(Default)]
struct Rounds {
    watched: Vec<Watched>,
    turn: usize,
}

struct Watched {
    residency: Arc<Residency>,
    /// The part that was scanned last.
    part: Range<u64>,
}

impl Rounds {
    fn run(&mut self, shared: &Shared, percent: u32) {
        loop {
            self.watched
                .retain(|watched| Arc::strong_count(&watched.residency) > 1);
            for residency in shared.take_new() {
                self.scan_whole(shared, residency);
            }
            // Relaxed: as in `drop`.
            if shared.stop.load(Relaxed) {
                return;
            }
            if self.watched.is_empty() {
                thread::park();
            } else {
                let began = Instant::now();
                let is_sparse = self.scan_next();
                thread::park_timeout(rest(began.elapsed(), percent, is_sparse));
            }
        }
    }

    /// Scans a mapping for the first time.
    fn scan_whole(&mut self, shared: &Shared, residency: Arc<Residency>) {
        let whole = residency.mapping().range();
        let mut part = whole.start..whole.start;
        // Relaxed: as in `drop`.
        while part.end < whole.end && !shared.stop.load(Relaxed) {
            part = next_part(&whole, &part);
            residency.scan_and_map(&part);
        }
        residency.count_scan();
        self.watched.push(Watched { residency, part });
    }

    /// Scans the next part of a mapping, of each mapping in turn. Returns whether less than half of it is in memory.
    fn scan_next(&mut self) -> bool {
        self.turn = (self.turn + 1) % self.watched.len();
        let Watched { residency, part } = &mut self.watched[self.turn];
        let whole = residency.mapping().range();
        *part = next_part(&whole, part);
        let in_memory = residency.scan_and_map(part);
        if part.end == whole.end {
            residency.count_scan();
        }
        let pages = (part.end - part.start).div_ceil(page_size() as u64);
        2 * (in_memory as u64) < pages
    }
}

/// Returns the part after another one, from the start again after the last.
fn next_part(whole: &Range<u64>, part: &Range<u64>) -> Range<u64> {
    let start = if part.end < whole.end {
        part.end
    } else {
        whole.start
    };
    start..whole.end.min(start.saturating_add(STEP))
}

/// Returns how long to rest after a scan of this duration.
fn rest(scan: Duration, percent: u32, is_sparse: bool) -> Duration {
    let factor = if is_sparse { SPARSE } else { 1 };
    (scan * (factor * 100 - percent) / percent).max(REST)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use rustix::io::pwrite;

    use super::*;
    use crate::mapping::Mapping;

    #[test]
    fn parts_cover_the_range_and_begin_again() {
        let whole = 5..2 * STEP + 7;
        let first = next_part(&whole, &(5..5));
        let second = next_part(&whole, &first);
        let third = next_part(&whole, &second);
        assert_eq!(first, 5..STEP + 5);
        assert_eq!(second, STEP + 5..2 * STEP + 5);
        assert_eq!(third, 2 * STEP + 5..2 * STEP + 7);
        assert_eq!(next_part(&whole, &third), first);
        assert_eq!(next_part(&(3..4), &(3..4)), 3..4);
    }

    #[test]
    fn rests_hold_the_rate() {
        let scan = Duration::from_millis(10);
        assert_eq!(rest(scan, 1, false), Duration::from_millis(990));
        assert_eq!(rest(scan, 50, false), scan);
        assert_eq!(rest(scan, 100, false), REST);
        assert_eq!(rest(Duration::ZERO, 1, false), REST);
        assert_eq!(rest(scan, 2, true), Duration::from_millis(1990));
        assert_eq!(rest(scan, 100, true), 3 * scan);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn a_part_is_sparse_while_less_than_half_of_it_is_in_memory() {
        let page = page_size() as u64;
        let file = memfd_create("vyre-mapped", MemfdFlags::empty()).unwrap();
        ftruncate(&file, 4 * page).unwrap();
        let residency = Residency::new(Arc::new(Mapping::new(&file, 0..4 * page).unwrap()));
        let mut rounds = Rounds::default();
        rounds.watched.push(Watched {
            residency: Arc::new(residency),
            part: 0..0,
        });
        for (written, is_sparse) in [(0, true), (1, true), (2, false), (3, false)] {
            if written > 0 {
                pwrite(&file, &[1], written * page).unwrap();
            }
            assert_eq!(rounds.scan_next(), is_sparse, "{written} pages");
        }
    }
}
