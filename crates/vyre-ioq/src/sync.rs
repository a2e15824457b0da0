//! Atomics and the primitives of a wait.
//!
//! They are those of the machine, or those of loom, which runs a test in every order of its threads and
//! with every value that the memory model lets a load return.

pub(crate) use core::sync::atomic::Ordering;

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, fence};
#[cfg(all(feature = "std", not(loom)))]
pub(crate) use std::{
    hint::spin_loop,
    thread::{sleep, yield_now},
    time::Instant,
};

#[cfg(loom)]
pub(crate) use self::model::{Instant, sleep, spin_loop};
#[cfg(loom)]
pub(crate) use loom::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, fence},
    thread::yield_now,
};

/// Time under loom. Every wait has lasted long enough to yield but never long enough to sleep or to time out,
/// so that a run depends on nothing but the order of its steps.
#[cfg(loom)]
mod model {
    use core::time::Duration;

    pub(crate) struct Instant;

    impl Instant {
        pub(crate) fn now() -> Self {
            Self
        }

        pub(crate) fn elapsed(&self) -> Duration {
            Duration::from_micros(100)
        }
    }

    pub(crate) fn sleep(_: Duration) {
        loom::thread::yield_now();
    }

    /// Does not yield, as loom's own version does. After a yield, loom shows a thread all recent stores, and
    /// no model would notice a missing acquire of a state that is loaded between two polls.
    pub(crate) fn spin_loop() {}
}
