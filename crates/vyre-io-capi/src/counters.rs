//! Counters, as C has them.

use vyre_io::QueueId;

use crate::code::Code;
use crate::failure::Failure;

/// Counts of one queue since its loop began to serve it. Later versions add fields at the end.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct QueueCounters {
    /// Requests claimed.
    pub claimed: u64,
    /// Requests completed with OK.
    pub succeeded: u64,
    /// Requests completed with ERROR, whatever the errno.
    pub failed: u64,
    /// Bytes moved by READ requests.
    pub bytes_read: u64,
    /// Bytes moved by WRITE requests.
    pub bytes_written: u64,
    /// Violations of the protocol by the device.
    pub device_faults: u64,
}

/// Counts of one loop since it started, or the sum of several. Later versions add fields at the end.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LoopCounters {
    /// Passes that did some work.
    pub busy_passes: u64,
    /// Sleeps of the thread.
    pub sleeps: u64,
    /// Operations given to the transport. A request may take several or none.
    pub operations: u64,
    /// Operations that moved only a part of a request's bytes and were followed by another.
    pub resumed: u64,
    /// Operations that were retried after EINTR or EAGAIN.
    pub retried: u64,
    /// Requests that waited in the host.
    pub waited: u64,
    /// READ operations that were copied out of the page cache.
    pub page_cache_reads: u64,
    /// READ operations of files with VYRE_IO_PAGE_CACHE_READS that could not be copied.
    pub page_cache_passed_on: u64,
    /// READ operations whose copy raised SIGBUS, and which the transport then performed.
    pub page_cache_faults: u64,
    /// Requests whose deadline passed.
    pub timed_out: u64,
    /// Completions that match no operation in flight. Any at all is a bug of the library.
    pub stray: u64,
}

impl From<vyre_io::QueueCounters> for QueueCounters {
    fn from(counters: vyre_io::QueueCounters) -> Self {
        Self {
            claimed: counters.claimed,
            succeeded: counters.succeeded,
            failed: counters.failed,
            bytes_read: counters.bytes_read,
            bytes_written: counters.bytes_written,
            device_faults: counters.device_faults,
        }
    }
}

impl From<vyre_io::LoopCounters> for LoopCounters {
    fn from(counters: vyre_io::LoopCounters) -> Self {
        Self {
            busy_passes: counters.busy_passes,
            sleeps: counters.sleeps,
            operations: counters.operations,
            resumed: counters.resumed,
            retried: counters.retried,
            waited: counters.waited,
            page_cache_reads: counters.page_cache_reads,
            page_cache_passed_on: counters.page_cache_passed_on,
            page_cache_faults: counters.page_cache_faults,
            timed_out: counters.timed_out,
            stray: counters.stray,
        }
    }
}

pub(crate) fn no_queue(queue: u64) -> Failure {
    vyre_io::QueueError::Unknown {
        queue: QueueId::from_raw(queue),
    }
    .into()
}

pub(crate) fn no_loop(index: u32) -> Failure {
    Failure::new(
        Code::NoSuchLoop,
        format!("there is no loop {index}: they are numbered from 0"),
    )
}
