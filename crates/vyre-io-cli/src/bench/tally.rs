//! Counts of the lanes.

use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use vyre_io::{Errno, LoopCounters};

use super::kernel::Counted;
use crate::failure::Failure;

/// One completion in this many is verified while the clock runs.
pub(super) const SAMPLE: u64 = 256;
/// Blocks read again and verified after the clock has stopped.
pub(super) const VERIFY: u64 = 4096;
/// Latencies are recorded from a nanosecond to a minute, to three digits.
const LONGEST: u64 = 60_000_000_000;

/// Operations by the way in which the loops performed them.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Served {
    /// Reads copied out of the page cache.
    pub(super) page_cache_reads: u64,
    /// Operations performed by the ring.
    pub(super) ring_operations: u64,
    /// Reads whose copy failed. The ring then performed them.
    pub(super) page_cache_faults: u64,
}

impl Served {
    pub(super) const fn of(counters: &LoopCounters) -> Self {
        let copied = counters.page_cache_reads;
        Self {
            page_cache_reads: copied,
            ring_operations: counters.operations.saturating_sub(copied),
            page_cache_faults: counters.page_cache_faults,
        }
    }

    const fn add(&mut self, other: Self) {
        self.page_cache_reads += other.page_cache_reads;
        self.ring_operations += other.ring_operations;
        self.page_cache_faults += other.page_cache_faults;
    }
}

/// Counts of one or more lanes.
pub(super) struct Tally {
    pub(super) ops: u64,
    pub(super) bytes: u64,
    pub(super) failed: u64,
    first_errno: Option<Errno>,
    pub(super) verified: u64,
    bad: u64,
    bad_offset: u64,
    pub(super) elapsed: Duration,
    pub(super) latency: Histogram<u64>,
    /// Set once the loops have stopped.
    pub(super) served: Served,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            ops: 0,
            bytes: 0,
            failed: 0,
            first_errno: None,
            verified: 0,
            bad: 0,
            bad_offset: 0,
            elapsed: Duration::ZERO,
            latency: Histogram::new_with_bounds(1, LONGEST, 3)
                .unwrap_or_else(|error| unreachable!("constant bounds: {error}")),
            served: Served::default(),
        }
    }

    pub(super) fn idle(elapsed: Duration) -> Self {
        Self {
            elapsed,
            ..Self::new()
        }
    }

    /// Returns the counts of lanes on a GPU.
    pub(super) fn of_gpu(counted: &Counted) -> Self {
        let mut tally = Self {
            ops: counted.ops,
            bytes: counted.bytes,
            failed: counted.failed,
            first_errno: counted.first_error,
            verified: counted.verified,
            bad: counted.bad,
            bad_offset: counted.bad_offset,
            elapsed: counted.elapsed,
            ..Self::new()
        };
        for (&nanos, &count) in &counted.latencies {
            let _ = tally.latency.record_n(nanos.clamp(1, LONGEST), count);
        }
        tally
    }

    /// Adds blocks that were verified after the clock had stopped, without their operations and
    /// time.
    pub(super) fn add_verified(&mut self, other: &Counted) {
        self.failed += other.failed;
        self.first_errno = self.first_errno.or(other.first_error);
        self.verified += other.verified;
        if self.bad == 0 {
            self.bad_offset = other.bad_offset;
        }
        self.bad += other.bad;
    }

    /// Adds another round.
    pub(super) fn add(&mut self, other: &Self) {
        self.elapsed += other.elapsed;
        self.served.add(other.served);
        self.add_lane(other);
    }

    /// Adds what another lane did in the same time.
    pub(super) fn add_lane(&mut self, other: &Self) {
        self.ops += other.ops;
        self.bytes += other.bytes;
        self.failed += other.failed;
        self.first_errno = self.first_errno.or(other.first_errno);
        self.verified += other.verified;
        if self.bad == 0 {
            self.bad_offset = other.bad_offset;
        }
        self.bad += other.bad;
        // The bounds are the same, so there is nothing to refuse.
        let _ = self.latency.add(&other.latency);
    }

    /// Operations in a second.
    pub(super) fn rate(&self) -> f64 {
        self.ops as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    pub(super) const fn errors(&self) -> u64 {
        self.failed + self.bad
    }

    /// Fails if any request failed or any block was wrong.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.bad > 0 {
            return Err(Failure::BadStamps {
                failed: self.bad,
                offset: self.bad_offset,
            });
        }
        match self.first_errno {
            Some(errno) => Err(Failure::Requests {
                failed: self.failed,
                first: io::Error::from(errno),
            }),
            None => Ok(()),
        }
    }

    /// Records a failure of a request that is outside the measured time.
    pub(super) fn note_failure(&mut self, errno: Errno) {
        self.failed += 1;
        self.first_errno.get_or_insert(errno);
    }

    /// Records whether a block had the expected contents.
    pub(super) fn note_block(&mut self, offset: u64, is_right: bool) {
        if is_right {
            self.verified += 1;
        } else {
            if self.bad == 0 {
                self.bad_offset = offset;
            }
            self.bad += 1;
        }
    }
}
