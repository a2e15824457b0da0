//! The bundle: reads of cached bytes that are copied before the sweep that claims them ends.
//!
//! The transport says at admission whether it can perform a read without the kernel. Such a read joins the bundle: no
//! request is recorded in its slot, no epoch counts it, and it takes no share of the transport. That is right since
//! nothing looks at any of these before the copies are made: no barrier of the queue, no completion, no deadline, no
//! change of the tables. The outcomes are stored together after the copies, because a store that waits for its
//! cache line delays the next copy.
//!
//! A read that could not be copied after all is started as any other, in the epoch that is open then.

use vyre_ioq::Errno;
use vyre_uring::{MAX_BUNDLE, Operation, Transport};

use super::Engine;
use super::checks::Transfer;
use super::engine_state::EngineState;
use super::request_state::Admitted;
use super::slot_id::SlotId;

/// The number of bundled bytes after which they are copied, and the outcomes published.
const COPY_BYTES: u32 = 256 << 10;

/// A read that waits for the next copies.
#[derive(Clone, Copy, Debug)]
struct BundledRead {
    slot: u32,
    /// Indices in the tables.
    file: u32,
    buffer: u32,
    len: u32,
    file_offset: u64,
    buffer_offset: u64,
    /// As the request has it, in microseconds; 0 if it has none.
    deadline: u32,
    exact: bool,
}

/// The reads of one queue that wait for the next copies.
#[derive(Debug)]
pub(super) struct Bundle {
    reads: Vec<BundledRead>,
    bytes: u32,
}

impl Bundle {
    pub(super) fn new() -> Self {
        Self {
            reads: Vec::with_capacity(MAX_BUNDLE),
            bytes: 0,
        }
    }

    /// Returns whether no more should wait.
    #[inline]
    fn is_full(&self) -> bool {
        self.bytes >= COPY_BYTES || self.reads.len() == MAX_BUNDLE
    }
}

impl<T: Transport> Engine<T> {
    /// Bundles a read if the transport can perform it without the kernel. Returns whether it did.
    #[inline(always)]
    pub(super) fn bundle(
        &mut self,
        id: SlotId,
        transfer: Transfer,
        exact: bool,
        deadline: u32,
    ) -> bool {
        // As any other read, it overtakes nobody who waits, and counts toward the bytes of the pass.
        let may_start = transfer.mapped
            && self.state.backlogged == 0
            && self.state.queues[id.queue as usize].limiter.is_none()
            && self.state.shares.has_bytes();
        let operation = Operation::Read {
            file: transfer.file_slot,
            offset: transfer.file_offset,
            buffer: transfer.slot,
            buffer_offset: transfer.buffer_offset,
            len: transfer.len,
        };
        if !may_start || !self.transport.bundle(operation) {
            return false;
        }
        self.state.shares.count_bytes(transfer.len);
        self.bundle.bytes += transfer.len;
        self.bundle.reads.push(BundledRead {
            slot: id.slot,
            file: transfer.file,
            buffer: transfer.buffer,
            len: transfer.len,
            file_offset: transfer.file_offset,
            buffer_offset: transfer.buffer_offset,
            deadline,
            exact,
        });
        if self.bundle.is_full() {
            self.copy_bundle(id.queue as usize);
        }
        true
    }

    /// Copies the bundled reads, which are of this queue, and publishes their outcomes.
    #[inline]
    pub(super) fn copy_bundle(&mut self, queue: usize) {
        if !self.bundle.reads.is_empty() {
            self.copy_some_bundled(queue);
        }
    }

    #[inline(never)]
    fn copy_some_bundled(&mut self, queue: usize) {
        let failed = self.transport.copy_bundle();
        let state = &mut self.state.queues[queue];
        let mut bytes = 0;
        for (nth, read) in self.bundle.reads.iter().enumerate() {
            if failed >> nth & 1 == 0 {
                bytes += u64::from(read.len);
                state.store_outcome(read.slot, Ok(read.len));
            }
        }
        state.counters.bytes_read += bytes;
        let copied = self.bundle.reads.len() as u32 - failed.count_ones();
        self.state.counters.operations += u64::from(copied);
        self.copied += copied;
        if failed != 0 {
            self.start_failed(queue, failed);
        }
        self.bundle.reads.clear();
        self.bundle.bytes = 0;
        self.state.publish_outcomes(queue);
    }

    /// Starts the reads of a set that could not be copied.
    #[cold]
    fn start_failed(&mut self, queue: usize, mut failed: u64) {
        while failed != 0 {
            let read = self.bundle.reads[failed.trailing_zeros() as usize];
            failed &= failed - 1;
            let id = SlotId {
                queue: queue as u32,
                slot: read.slot,
            };
            let Some(transfer) = self.state.transfer(&read) else {
                // Nothing changes the tables during a sweep.
                debug_assert!(false, "{read:?} has lost its file or its buffer");
                self.reject(queue, read.slot, Errno::EBADF);
                continue;
            };
            let expires = self.expiry(read.deadline);
            self.start(id, Admitted::Read(transfer), read.exact, expires);
        }
    }
}

impl EngineState {
    /// Returns the transfer of a bundled read.
    fn transfer(&self, read: &BundledRead) -> Option<Transfer> {
        Some(Transfer {
            file: read.file,
            file_slot: self.files.entries.at(read.file)?.slot,
            buffer: read.buffer,
            slot: self.buffers.entries.at(read.buffer)?.slot,
            file_offset: read.file_offset,
            buffer_offset: read.buffer_offset,
            len: read.len,
            durable: false,
            // A file without offsets has no mapping.
            unbounded: false,
            mapped: true,
        })
    }
}
