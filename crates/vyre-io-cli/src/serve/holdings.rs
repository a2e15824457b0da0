//! Queues, buffers and handles of one peer. All methods may wait for the loops.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use rustix::param::page_size;
use vyre_io::ioq::abi;
use vyre_io::{
    Buffer, BufferError, BufferHandle, BufferOptions, Features, FileHandle, FileOptions, LoopGroup,
    QueueCounters, QueueError, QueueId, QueueLayout, QueueOptions, Rights, SharedQueueError,
    TableError, shared_queue,
};
use vyre_io_client::protocol::{BufferIs, Code, FileIs, Limits, PeerStatus, QueueIs};

use super::limits::of_each;
use super::policy::ServedFile;
use super::record::Record;

/// Time that requests of a peer have to end by themselves when it gives their queue or handle back. Those of a
/// peer that is gone have none.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// Features of every queue: all that there are.
const QUEUE_FEATURES: Features = Features::DOORBELL.union(Features::WAKE);

/// Bytes of the header of a queue.
const HEADER_BYTES: u64 = QueueLayout::with_slots(1).bytes() as u64 - 64;

#[derive(Debug)]
struct HeldQueue {
    id: QueueId,
    memory: OwnedFd,
    bytes: usize,
}

#[derive(Debug)]
struct HeldBuffer {
    queue: u32,
    handle: BufferHandle,
    /// Unmapped here once the loops have let go of it: that takes too long for their threads.
    mapped: Buffer,
    memory: OwnedFd,
    bytes: u64,
}

/// Queues, buffers and handles of one peer. Dropping it takes everything back, and cancels what is in flight.
#[derive(Debug)]
pub(crate) struct Holdings {
    loops: Arc<LoopGroup>,
    limits: Limits,
    record: Arc<Record>,
    queues: BTreeMap<u32, HeldQueue>,
    buffers: BTreeMap<u32, HeldBuffer>,
    /// Handles of files, with the number of their queue.
    files: BTreeMap<u32, (u32, FileHandle)>,
    /// Memory of the queues that were closed last, whose outcomes the peer may not have taken yet.
    closed: VecDeque<(OwnedFd, u64)>,
}

impl Holdings {
    pub(crate) const fn new(loops: Arc<LoopGroup>, limits: Limits, record: Arc<Record>) -> Self {
        Self {
            loops,
            limits,
            record,
            queues: BTreeMap::new(),
            buffers: BTreeMap::new(),
            files: BTreeMap::new(),
            closed: VecDeque::new(),
        }
    }

    /// Makes a queue. Returns its memory for the peer.
    pub(crate) fn add_queue(&mut self, queue: u32, slots: u32) -> Result<(QueueIs, OwnedFd), Code> {
        let layout = QueueLayout::with_slots(slots).with_features(QUEUE_FEATURES);
        let (host, memory) = shared_queue(layout).map_err(|error| match error {
            SharedQueueError::Memory(error) => no_memory(error),
            error => {
                tracing::error!(%error, "a queue cannot be made");
                Code::Internal
            }
        })?;
        let theirs = dup(&memory)?;
        let each = of_each(&self.limits, self.queues.len() + 1);
        // Before there is one more, so that together they never exceed the limits of the peer.
        self.divide(self.queues.len() + 1);
        let added = self.loops.add_queue(QueueOptions::new(host).limits(each));
        let id = added.map_err(|error| {
            self.divide(self.queues.len());
            failed_queue(&error)
        })?;
        let bytes = layout.bytes();
        let held = HeldQueue { id, memory, bytes };
        self.queues.insert(queue, held);
        self.record.change(|shown| shown.queues.push(id));
        let answer = QueueIs {
            queue,
            slots,
            bytes: bytes as u64,
            features: QUEUE_FEATURES.bits(),
            abi_major: abi::ABI_MAJOR as u16,
            abi_minor: abi::ABI_MINOR as u16,
        };
        Ok((answer, theirs))
    }

    /// Makes a buffer for a queue. Returns its memory for the peer.
    pub(crate) fn add_buffer(
        &mut self,
        queue: u32,
        bytes: u64,
    ) -> Result<(BufferIs, OwnedFd), Code> {
        let id = self.id_of(queue)?;
        let len = usize::try_from(bytes).map_err(|_| Code::TooManyBufferBytes)?;
        let (buffer, memory) = Buffer::memfd(len).map_err(no_memory)?;
        let theirs = dup(&memory)?;
        let options = BufferOptions::new(Rights::READ | Rights::WRITE).only_for(id);
        let mapped = buffer.clone();
        let inserted = self.loops.insert_buffer(buffer, .., options);
        let handle = inserted.map_err(|error| failed_entry(&error, Code::NoResources))?;
        let bytes_held = bytes.next_multiple_of(page_size() as u64);
        let held = HeldBuffer {
            queue,
            handle,
            mapped,
            memory,
            bytes: bytes_held,
        };
        self.buffers.insert(handle.raw(), held);
        self.show();
        let handle = handle.raw();
        Ok((BufferIs { bytes, handle }, theirs))
    }

    /// Opens a file for a queue, with these rights or, if they are 0, with all that it has.
    pub(crate) fn open(
        &mut self,
        queue: u32,
        file: &ServedFile,
        rights: u32,
    ) -> Result<FileIs, Code> {
        let id = self.id_of(queue)?;
        let rights = match rights {
            0 => file.rights,
            some => u8::try_from(some)
                .ok()
                .and_then(Rights::from_bits)
                .filter(|&rights| file.rights.contains(rights))
                .ok_or(Code::NotPermitted)?,
        };
        let failed = |error: std::io::Error| {
            let code = match Errno::from_io_error(&error) {
                Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => Code::NoResources,
                _ => Code::FileFailed,
            };
            tracing::error!(name = ?file.name, %error, "a file cannot be given to a peer");
            code
        };
        let length = file.length().map_err(failed)?;
        let description = file.file.try_clone().map_err(failed)?;
        let range = file.range.clone();
        let options = FileOptions::new(rights).only_for(id);
        let inserted = self.loops.insert_file(description, range.clone(), options);
        let handle = inserted.map_err(|error| failed_entry(&error, Code::FileFailed))?;
        self.files.insert(handle.raw(), (queue, handle));
        self.show();
        Ok(FileIs {
            handle: handle.raw(),
            rights: rights.bits().into(),
            start: range.start,
            end: range.end,
            length,
            alignment: 1,
        })
    }

    /// Takes a handle to a file back.
    pub(crate) fn close_file(&mut self, handle: u32) -> Result<(), Code> {
        let Some((_, known)) = self.files.remove(&handle) else {
            return Ok(());
        };
        self.show();
        revoked(self.loops.revoke_file_within(known, PATIENCE))
    }

    /// Takes a buffer back.
    pub(crate) fn close_buffer(&mut self, handle: u32) -> Result<(), Code> {
        let Some(held) = self.buffers.remove(&handle) else {
            return Ok(());
        };
        self.show();
        let done = revoked(self.loops.revoke_buffer_within(held.handle, PATIENCE));
        free(&held.memory, 0..held.bytes);
        drop(held.mapped);
        done
    }

    /// Takes a queue back, with all handles that are bound to it.
    pub(crate) fn close_queue(&mut self, queue: u32) -> Result<(), Code> {
        let done = self.take_queue(queue, PATIENCE);
        self.divide(self.queues.len());
        done
    }

    /// Takes everything back from a peer that is gone. Returns its last counters.
    pub(crate) fn end(mut self, patience: Duration) -> PeerStatus {
        self.take_all(patience);
        self.record.status(&self.loops)
    }

    /// Leaves everything to the loops, which are about to end. Returns the counters so far.
    pub(crate) fn forget(mut self) -> PeerStatus {
        let status = self.record.status(&self.loops);
        self.queues.clear();
        self.buffers.clear();
        self.files.clear();
        status
    }

    fn take_all(&mut self, patience: Duration) {
        while let Some((&queue, _)) = self.queues.first_key_value() {
            // What the kernel keeps is in the log.
            let _ = self.take_queue(queue, patience);
        }
        while !self.closed.is_empty() {
            self.free_closed();
        }
    }

    fn take_queue(&mut self, queue: u32, patience: Duration) -> Result<(), Code> {
        let mut done = Ok(());
        if let Some(held) = self.queues.remove(&queue) {
            let last = self.loops.queue_counters(held.id);
            let removed = self.loops.remove_queue_within(held.id, patience);
            let counters = match &removed {
                Ok(removed) => Some(removed.counters),
                Err(_) => last,
            };
            self.record
                .remove_queue(held.id, counters.unwrap_or_default());
            if let Err(error) = removed {
                tracing::warn!(peer = self.record.peer, %error, "a queue was not given back in order");
                done = Err(Code::StillInUse);
            }
            self.closed.push_back((held.memory, held.bytes as u64));
            while self.closed.len() > self.limits.queues as usize {
                self.free_closed();
            }
        }
        // With the queue gone, nothing can be in flight on its handles unless the kernel holds it.
        self.files.retain(|_, (of, handle)| {
            let is_other = *of != queue;
            if !is_other {
                let taken = self.loops.revoke_file_within(*handle, Duration::ZERO);
                done = done.and(revoked(taken));
            }
            is_other
        });
        self.buffers.retain(|_, held| {
            let is_other = held.queue != queue;
            if !is_other {
                let taken = self.loops.revoke_buffer_within(held.handle, Duration::ZERO);
                done = done.and(revoked(taken));
                free(&held.memory, 0..held.bytes);
            }
            is_other
        });
        self.show();
        done
    }

    /// Frees the slots of the queue that was closed first. Its header goes on to say that the host is gone.
    fn free_closed(&mut self) {
        if let Some((memory, bytes)) = self.closed.pop_front() {
            free(&memory, HEADER_BYTES..bytes);
        }
    }

    fn id_of(&self, queue: u32) -> Result<QueueId, Code> {
        let held = self.queues.get(&queue);
        held.map(|held| held.id).ok_or(Code::NoSuchQueue)
    }

    /// Divides the limits of the peer among its queues.
    fn divide(&self, queues: usize) {
        let each = of_each(&self.limits, queues);
        if each == of_each(&self.limits, queues + 1) {
            // There are no limits.
            return;
        }
        for held in self.queues.values() {
            if let Err(error) = self.loops.set_queue_limits(held.id, each) {
                tracing::error!(peer = self.record.peer, %error, "limits cannot be set");
            }
        }
    }

    fn show(&self) {
        let bytes = self.buffers.values().map(|held| held.bytes).sum();
        self.record.change(|shown| {
            shown.buffers = self.buffers.len() as u32;
            shown.buffer_bytes = bytes;
            shown.open_files = self.files.len() as u32;
        });
    }
}

impl Drop for Holdings {
    fn drop(&mut self) {
        self.take_all(Duration::ZERO);
    }
}

/// Frees the pages of memory that nobody uses for transfers any more. The peer may keep its descriptor, and what
/// it then stores there is its own memory.
fn free(memory: &OwnedFd, bytes: Range<u64>) {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let whole = bytes.end.next_multiple_of(page_size() as u64);
    let Some(len @ 1..) = whole.checked_sub(bytes.start) else {
        return;
    };
    if let Err(error) = rustix::fs::fallocate(memory, flags, bytes.start, len) {
        tracing::warn!(%error, "memory of a peer that is gone cannot be freed while it is held");
    }
}

fn dup(memory: &OwnedFd) -> Result<OwnedFd, Code> {
    memory.try_clone().map_err(|error| {
        tracing::error!(%error, "no descriptor for a peer");
        Code::NoResources
    })
}

fn no_memory(error: BufferError) -> Code {
    tracing::error!(%error, "no memory for a peer");
    Code::NoResources
}

fn failed_queue(error: &QueueError) -> Code {
    tracing::error!(%error, "a queue cannot be added");
    match error {
        QueueError::Full { .. } => Code::NoResources,
        QueueError::Ended => Code::ShuttingDown,
        _ => Code::Internal,
    }
}

/// Returns the refusal for an entry that a loop did not take.
fn failed_entry(error: &TableError, code: Code) -> Code {
    tracing::error!(%error, "a file or a buffer cannot be inserted");
    let reason = match error {
        TableError::Loop { reason, .. } => reason,
        error => error,
    };
    match reason {
        TableError::NoRoom { .. } | TableError::Full | TableError::Register(_) => Code::NoResources,
        TableError::Ended => Code::ShuttingDown,
        _ => code,
    }
}

fn revoked(done: Result<(), TableError>) -> Result<(), Code> {
    done.map_err(|error| {
        tracing::warn!(%error, "a handle was not given back in order");
        Code::StillInUse
    })
}

/// Returns the sum of two counts.
pub(crate) fn sum(one: QueueCounters, other: QueueCounters) -> QueueCounters {
    [one, other].into_iter().sum()
}
