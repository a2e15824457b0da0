//! A thread that keeps the map of a mapping up to date.

use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::residency::Residency;

/// The largest number of bytes of one scan.
const STEP: u64 = 16 << 20;

/// A thread that scans a mapping over and over, part by part, at a limited rate. It also maps the pages
/// that it finds in memory, so that a copy has no page fault and the next scan is quicker.
///
/// Threads that copy ask the [`Residency`] and never wait for the watcher. A dropped watcher ends
/// after the scan that is under way.
#[derive(Debug)]
pub struct Watcher {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts the thread. It scans at most this many bytes of the mapping per second, in parts of
    /// up to 16 MiB. A scan of 1 GiB takes 0.5 ms to 25 ms of a processor.
    ///
    /// # Errors
    /// If the kernel starts no thread.
    pub fn spawn(residency: Arc<Residency>, bytes_per_second: NonZeroU64) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let watch = {
            let stop = stop.clone();
            move || watch(&residency, bytes_per_second, &stop)
        };
        let thread = thread::Builder::new()
            .name("vyre-residency".to_owned())
            .spawn(watch)?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Relaxed: the flag alone is passed, and `unpark` and `join` order the rest.
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn watch(residency: &Residency, bytes_per_second: NonZeroU64, stop: &AtomicBool) {
    let whole = residency.mapping().range();
    let mut part = whole.start..whole.start;
    // Relaxed: as in `drop`.
    while !stop.load(Relaxed) {
        part = next_part(&whole, &part);
        // A scan that fails leaves the map as it was; the next one may succeed.
        let _ = residency.scan(part.clone());
        residency.map_resident(part.clone());
        thread::park_timeout(pause(&part, bytes_per_second));
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

/// Returns how long to rest after a scan.
fn pause(part: &Range<u64>, bytes_per_second: NonZeroU64) -> Duration {
    // At least a page: a scan of a short mapping asks about a page, too.
    let bytes = u128::from((part.end - part.start).max(4096));
    let nanoseconds = bytes * 1_000_000_000 / u128::from(bytes_per_second.get());
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn pauses_hold_the_rate() {
        let rate = |rate| NonZeroU64::new(rate).unwrap();
        assert_eq!(pause(&(0..STEP), rate(STEP)), Duration::from_secs(1));
        assert_eq!(
            pause(&(0..STEP), rate(4 * STEP)),
            Duration::from_millis(250)
        );
        assert_eq!(pause(&(0..1), rate(4096)), Duration::from_secs(1));
        assert_eq!(pause(&(0..STEP), rate(1)), Duration::from_secs(STEP));
    }
}
