//! A queue that a loop gives back.

use vyre_ioq::HostQueue;

use crate::counters::QueueCounters;
use crate::engine::queue_state::QueueState;

/// A queue that is no longer served. Its memory is the caller's again: nothing accesses it once `queue` is dropped.
///
/// Its devices see STOPPED. Every request that the loop had claimed has its outcome, and no operation of the queue is
/// in flight.
#[derive(Debug)]
#[non_exhaustive]
pub struct RemovedQueue {
    /// The host end. It has ended, so no loop takes it again.
    pub queue: HostQueue,
    /// The last counters of the queue.
    pub counters: QueueCounters,
}

impl RemovedQueue {
    pub(crate) fn new(state: QueueState) -> Self {
        Self {
            counters: state.counters(),
            queue: state.host,
        }
    }
}
