//! The clock of deadlines.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A clock that counts microseconds since the engine was created, and never reads zero.
#[derive(Debug)]
pub(crate) enum Clock {
    Monotonic(Instant),
    /// A clock that a test moves.
    Driven(Arc<AtomicU64>),
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self::Monotonic(Instant::now())
    }

    pub(crate) fn now(&self) -> u64 {
        match self {
            Self::Monotonic(epoch) => epoch.elapsed().as_micros() as u64 + 1,
            Self::Driven(now) => now.load(Ordering::Relaxed),
        }
    }
}

/// A handle with which a test moves an engine's clock. It is not part of the stable interface.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub(crate) fn new(now: u64) -> Self {
        Self(Arc::new(AtomicU64::new(now)))
    }

    pub(crate) fn clock(&self) -> Clock {
        Clock::Driven(self.0.clone())
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_micros() as u64, Ordering::Relaxed);
    }
}
