//! Counters that any thread may read at any time.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

macro_rules! counters {
    (
        $(#[$outer:meta])*
        $snapshot:ident, $shared:ident { $($(#[$doc:meta])* $field:ident),+ $(,)? }
    ) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $snapshot {
            $($(#[$doc])* pub $field: u64,)+
        }

        impl std::iter::Sum for $snapshot {
            fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
                all.fold(Self::default(), |sum, each| Self {
                    $($field: sum.$field.wrapping_add(each.$field),)+
                })
            }
        }

        /// The same, shared: written by the loop's thread alone, so plain stores suffice.
        #[derive(Debug, Default)]
        pub(crate) struct $shared {
            $($field: AtomicU64,)+
        }

        impl $shared {
            /// Relaxed: each counter stands alone.
            pub(crate) fn publish(&self, now: &$snapshot) {
                $(self.$field.store(now.$field, Ordering::Relaxed);)+
            }

            pub(crate) fn read(&self) -> $snapshot {
                $snapshot { $($field: self.$field.load(Ordering::Relaxed),)+ }
            }
        }
    };
}

counters! {
    /// What happened in one queue since its loop started.
    QueueCounters, SharedQueueCounters {
        /// Requests claimed.
        claimed,
        /// Requests completed with OK.
        succeeded,
        /// Requests completed with ERROR, whatever the errno.
        failed,
        /// Bytes that READ requests moved.
        bytes_read,
        /// Bytes that WRITE requests moved.
        bytes_written,
        /// What the device did against the protocol: see [`HostFaults`](vyre_ioq::HostFaults).
        device_faults,
    }
}

counters! {
    /// What happened in one loop since it started.
    LoopCounters, SharedLoopCounters {
        /// Passes that found something to do.
        busy_passes,
        /// Times the thread went to sleep.
        sleeps,
        /// Operations given to the transport: a request may take several, or none.
        operations,
        /// Operations that did not move all of a request's bytes, so that another one followed: short
        /// transfers, and pieces of large requests.
        resumed,
        /// Operations that were retried after EINTR or EAGAIN.
        retried,
        /// Requests that had to wait in the host: for their queue's share of the ring or of the pass,
        /// behind others that wait, of whichever queue, or for others on pipes and the like.
        deferred,
        /// Requests whose deadline passed.
        timed_out,
        /// Completions that belong to no operation in flight: a bug in this crate or below.
        stray,
    }
}

/// Where a loop publishes its counters.
#[derive(Debug)]
pub(crate) struct SharedCounters {
    pub(crate) whole: CachePadded<SharedLoopCounters>,
    pub(crate) queues: Box<[CachePadded<SharedQueueCounters>]>,
}

impl SharedCounters {
    pub(crate) fn new(queues: usize) -> Self {
        Self {
            whole: CachePadded::default(),
            queues: (0..queues).map(|_| CachePadded::default()).collect(),
        }
    }
}
