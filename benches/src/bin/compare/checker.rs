//! Verification of a sample of the blocks, and latencies, the same for everyone who is compared.

use std::time::Instant;

use hdrhistogram::Histogram;
use vyre_io::Buffer;
use vyre_io_cli::measure::stamp;

/// One completion in this many is verified. A prime, so that every place has its turn.
const SAMPLE: u64 = 1021;
/// Latencies are recorded from a nanosecond to a minute, to three digits.
const LONGEST: u64 = 60_000_000_000;

/// Verifies a sample of the blocks that one thread reads, and records latencies.
pub(crate) struct Checker {
    left: u64,
    bytes: Vec<u8>,
    verified: u64,
    wrong: Option<u64>,
    latency: Option<Latency>,
}

struct Latency {
    /// Time at which the request of each place was published, which is right after the completion before
    /// it. `None` for the first request of a place, whose latency is not recorded.
    since: Vec<Option<Instant>>,
    recorded: Histogram<u64>,
}

/// Results of a [`Checker`].
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) verified: u64,
    /// Offset of a block with wrong bytes.
    pub(crate) wrong: Option<u64>,
    pub(crate) latency: Option<Histogram<u64>>,
}

pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 3)
        .unwrap_or_else(|error| unreachable!("constant bounds: {error}"))
}

impl Checker {
    /// For `places` requests in flight of `size` bytes each.
    pub(crate) fn new(places: u32, size: u32, latency: bool) -> Self {
        Self {
            left: 1,
            bytes: vec![0; size as usize],
            verified: 0,
            wrong: None,
            latency: latency.then(|| Latency {
                since: vec![None; places as usize],
                recorded: histogram(),
            }),
        }
    }

    /// Starts the clock of a place whose request is not published right after the completion before it.
    #[inline]
    pub(crate) fn restart(&mut self, place: u32) {
        if let Some(latency) = &mut self.latency {
            latency.since[place as usize] = Some(Instant::now());
        }
    }

    /// Notes a completion, whose block lies in its place of `buffer`. The place's next request is published right after.
    #[inline]
    pub(crate) fn completed(&mut self, buffer: &Buffer, place: u32, offset: u64) {
        self.time(place);
        if self.is_due() {
            let mut bytes = std::mem::take(&mut self.bytes);
            let start = place as usize * bytes.len();
            let read = buffer.read_at(start, &mut bytes);
            debug_assert!(read.is_ok(), "every place is inside the buffer");
            self.check(offset, &bytes);
            self.bytes = bytes;
        }
    }

    /// The same for a block in memory of the caller's.
    #[inline]
    pub(crate) fn completed_in(&mut self, block: &[u8], place: u32, offset: u64) {
        self.time(place);
        if self.is_due() {
            self.check(offset, block);
        }
    }

    #[inline]
    fn time(&mut self, place: u32) {
        if let Some(Latency { since, recorded }) = &mut self.latency {
            let now = Instant::now();
            if let Some(since) = since[place as usize].replace(now) {
                // Longer than a minute is a minute.
                recorded.saturating_record((now - since).as_nanos() as u64);
            }
        }
    }

    #[inline]
    fn is_due(&mut self) -> bool {
        self.left -= 1;
        if self.left == 0 {
            self.left = SAMPLE;
            return true;
        }
        false
    }

    #[cold]
    fn check(&mut self, offset: u64, block: &[u8]) {
        if stamp::is_intact(offset, block) {
            self.verified += 1;
        } else {
            self.wrong = self.wrong.or(Some(offset));
        }
    }

    pub(crate) fn finish(self) -> Checked {
        Checked {
            verified: self.verified,
            wrong: self.wrong,
            latency: self.latency.map(|latency| latency.recorded),
        }
    }
}

impl Checked {
    /// Adds what another thread found.
    pub(crate) fn add(&mut self, other: &Self) {
        self.verified += other.verified;
        self.wrong = self.wrong.or(other.wrong);
        if let (Some(all), Some(more)) = (&mut self.latency, &other.latency) {
            // The bounds are the same, so there is nothing to refuse.
            let _ = all.add(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_verified_and_a_wrong_block_is_found() {
        let mut block = vec![0; 512];
        stamp::write(1024, &mut block);
        let mut checker = Checker::new(1, 512, true);
        for _ in 0..2 * SAMPLE {
            checker.completed_in(&block, 0, 1024);
        }
        checker.completed_in(&block, 0, 512);
        let checked = checker.finish();
        assert_eq!((checked.verified, checked.wrong), (2, Some(512)));
        assert_eq!(checked.latency.expect("asked for").len(), 2 * SAMPLE);
    }

    #[test]
    fn the_place_in_the_buffer_is_the_requests() {
        let buffer = Buffer::anonymous(1024).expect("memory");
        let mut block = vec![0; 512];
        stamp::write(4096, &mut block);
        buffer.write_at(512, &block).expect("inside");
        let mut checker = Checker::new(2, 512, false);
        checker.completed(&buffer, 1, 4096);
        let checked = checker.finish();
        assert_eq!((checked.verified, checked.wrong), (1, None));
        assert!(checked.latency.is_none());
    }
}
