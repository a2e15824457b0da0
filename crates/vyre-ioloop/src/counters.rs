//! Counters that any thread may read at any time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crossbeam_utils::CachePadded;

use crate::queue_id::QueueId;

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

        /// The same counters, shared. Only the loop's thread writes them, so plain stores suffice.
        #[derive(Debug, Default)]
        pub(crate) struct $shared {
            $($field: AtomicU64,)+
        }

        impl $shared {
            /// Relaxed: the counters are independent of each other.
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
    /// Counts of one queue since its loop began to serve it.
    QueueCounters, SharedQueueCounters {
        /// Requests claimed.
        claimed,
        /// Requests completed with OK.
        succeeded,
        /// Requests completed with ERROR, whatever the errno.
        failed,
        /// Bytes moved by READ requests.
        bytes_read,
        /// Bytes moved by WRITE requests.
        bytes_written,
        /// Protocol violations by the device: see [`HostFaults`](vyre_ioq::HostFaults).
        device_faults,
    }
}

counters! {
    /// Counts of one loop since it started.
    LoopCounters, SharedLoopCounters {
        /// Passes that did some work.
        busy_passes,
        /// Sleeps of the thread.
        sleeps,
        /// Operations given to the transport. A request may take several or none.
        operations,
        /// Operations that moved only a part of a request's bytes and were followed by another: short
        /// transfers, and pieces of large requests.
        resumed,
        /// Operations that were retried after EINTR or EAGAIN.
        retried,
        /// Requests that waited in the host: for their queue's share of the ring or of the pass, behind
        /// other waiting requests, or behind other requests to pipes and similar files.
        waited,
        /// READ operations that were copied out of the page cache. Only files with
        /// [`page_cache_reads`](crate::FileOptions::page_cache_reads) count, here and below.
        page_cache_reads,
        /// READ operations that were performed by the transport, since they could not be copied.
        page_cache_passed_on,
        /// READ operations whose copy raised SIGBUS, and which the transport then performed.
        page_cache_faults,
        /// Requests whose deadline passed.
        timed_out,
        /// Completions that match no operation in flight. Any at all indicates a bug in this crate or
        /// in a lower one.
        stray,
    }
}

/// The counters as a loop publishes them.
#[derive(Debug)]
pub(crate) struct SharedCounters {
    pub(crate) whole: CachePadded<SharedLoopCounters>,
    /// Those of each queue. The loop's thread writes them without the lock.
    queues: RwLock<BTreeMap<QueueId, Arc<CachePadded<SharedQueueCounters>>>>,
}

impl SharedCounters {
    pub(crate) fn new(
        queues: impl Iterator<Item = (QueueId, Arc<CachePadded<SharedQueueCounters>>)>,
    ) -> Self {
        Self {
            whole: CachePadded::default(),
            queues: RwLock::new(queues.collect()),
        }
    }

    pub(crate) fn queue(&self, queue: QueueId) -> Option<QueueCounters> {
        let queues = self.queues.read().unwrap_or_else(PoisonError::into_inner);
        queues.get(&queue).map(|shared| shared.read())
    }

    pub(crate) fn add_queue(&self, queue: QueueId, shared: Arc<CachePadded<SharedQueueCounters>>) {
        let mut queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
        queues.insert(queue, shared);
    }

    pub(crate) fn remove_queue(&self, queue: QueueId) {
        let mut queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
        queues.remove(&queue);
    }
}
