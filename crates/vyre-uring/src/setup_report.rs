//! The report on the set-up of a transport.

use std::fmt;

use crate::futex_means::FutexMeans;
pub use crate::ring_report::{Opcode, RefusedFlags, RingFeatures, RingReport, SetupStep};
use crate::thread_pool_report::ThreadPoolReport;

/// Report on the set-up of a transport: what it was built with, and why not with more. `Display` formats
/// it in a few lines.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SetupReport {
    /// Report on a [`Ring`](crate::Ring).
    Ring(RingReport),
    /// Report on a [`ThreadPool`](crate::ThreadPool).
    ThreadPool(ThreadPoolReport),
}

impl SetupReport {
    /// Returns the report on the ring, if it is one.
    pub const fn ring(&self) -> Option<&RingReport> {
        match self {
            Self::Ring(report) => Some(report),
            Self::ThreadPool(_) => None,
        }
    }

    /// Returns the report on the pool, if it is one.
    pub const fn thread_pool(&self) -> Option<&ThreadPoolReport> {
        match self {
            Self::Ring(_) => None,
            Self::ThreadPool(report) => Some(report),
        }
    }

    /// Returns the number of operations that may be in flight at once.
    pub fn entries(&self) -> u32 {
        match self {
            Self::Ring(report) => report.sq_entries(),
            Self::ThreadPool(report) => report.entries(),
        }
    }

    /// Returns how the transport notices futexes, once [`set_futexes`](crate::Transport::set_futexes) was called.
    pub fn futexes(&self) -> Option<FutexMeans> {
        match self {
            Self::Ring(report) => report.futexes(),
            Self::ThreadPool(report) => report.futexes(),
        }
    }

    /// Returns which transport it is and why, in one line.
    pub fn summary(&self) -> String {
        match self {
            Self::Ring(_) => "io_uring".to_owned(),
            Self::ThreadPool(report) => report.summary(),
        }
    }
}

impl fmt::Display for SetupReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring(report) => report.fmt(f),
            Self::ThreadPool(report) => report.fmt(f),
        }
    }
}
