//! The checks of a queue that is about to be served.

use std::ops::Range;

use vyre_ioq::HostQueue;

use crate::error::QueueError;
use crate::queue_id::QueueId;

/// Refuses a host end that has served elsewhere.
pub(crate) fn check_end(host: &HostQueue) -> Result<(), QueueError> {
    let state = host.state();
    if state.is_gone() {
        return Err(QueueError::Gone { state });
    }
    match host.owed() {
        0 => Ok(()),
        requests => Err(QueueError::Claimed { requests }),
    }
}

/// Refuses a queue whose memory is that of another, or overlaps it.
pub(crate) fn check_memory(
    addresses: &Range<usize>,
    others: impl IntoIterator<Item = (QueueId, Range<usize>)>,
) -> Result<(), QueueError> {
    let overlaps =
        |other: &Range<usize>| other.start < addresses.end && addresses.start < other.end;
    let found = others.into_iter().find(|(_, other)| overlaps(other));
    found.map_or(Ok(()), |(queue, _)| Err(QueueError::Overlaps { queue }))
}
