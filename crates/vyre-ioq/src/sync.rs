//! Atomics, and how to wait: the machine's, or those of loom, which runs a test in every order of
//! its threads and with every value that the memory model lets a load return.

pub(crate) use core::sync::atomic::Ordering;

#[cfg(not(loom))]
pub(crate) use core::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, fence},
};
#[cfg(all(feature = "std", not(loom)))]
pub(crate) use std::{
    thread::{sleep, yield_now},
    time::Instant,
};

#[cfg(loom)]
pub(crate) use self::model::{Instant, sleep};
#[cfg(loom)]
pub(crate) use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, fence},
    thread::yield_now,
};

/// Time under loom: it stands still, so that a run depends on nothing but the order of its steps.
#[cfg(loom)]
mod model {
    use core::time::Duration;

    pub(crate) struct Instant;

    impl Instant {
        pub(crate) fn now() -> Self {
            Self
        }

        pub(crate) fn elapsed(&self) -> Duration {
            Duration::ZERO
        }
    }

    pub(crate) fn sleep(_: Duration) {
        loom::thread::yield_now();
    }
}
