//! Loop with queues, files and a buffer, as most tests need one.

use std::os::fd::OwnedFd;

use vyre_ioloop::{BufferTable, FileTable, IoLoop, IoLoopBuilder, Rights};
use vyre_ioq::{
    BufferHandle, DeviceQueue, Errno, FileHandle, HostQueue, Queue, QueueLayout, Request, Ticket,
};
use vyre_uring::Buffer;

use crate::scene::{LIMIT, eventually};

/// Parts of a loop.
#[derive(Debug)]
pub struct Parts {
    /// Files that devices may name.
    pub files: FileTable,
    /// Buffers of the loop: the pool.
    pub buffers: BufferTable,
    /// Memory of the pool.
    pub memory: Buffer,
    /// Handle of the pool, with all rights.
    pub pool: BufferHandle,
}

impl Parts {
    /// Returns parts without a file, with a pool of `len` bytes.
    pub fn new(len: usize) -> Self {
        let memory = Buffer::anonymous(len).expect("memory");
        let mut buffers = BufferTable::new();
        let pool = buffers.insert(memory.clone()).expect("fits");
        Self {
            files: FileTable::new(),
            buffers,
            memory,
            pool,
        }
    }

    /// Adds a file with all rights.
    pub fn file(&mut self, file: impl Into<OwnedFd>) -> FileHandle {
        self.files.insert(file, Rights::all()).expect("fits")
    }

    /// Adds the reading end of a pipe. Reads of it wait until something is written.
    pub fn pipe(&mut self) -> (FileHandle, std::io::PipeWriter) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let handle = self.files.insert(reader, Rights::READ).expect("fits");
        (handle, writer)
    }

    /// Returns a builder with these parts, without queues.
    pub fn builder(self) -> IoLoopBuilder {
        IoLoop::builder().files(self.files).buffers(self.buffers)
    }
}

/// Returns both ends of a queue.
pub fn queue(slots: u32) -> (HostQueue, DeviceQueue) {
    Queue::anonymous(QueueLayout::with_slots(slots)).expect("a queue")
}

/// Submits a request.
pub fn submit(device: &DeviceQueue, request: Request) -> Ticket {
    device.submit(request).expect("a free slot")
}

/// Waits for an outcome, and returns it.
pub fn outcome_of(device: &DeviceQueue, ticket: Ticket) -> Result<u32, Errno> {
    let outcome = device.wait_for(ticket, LIMIT);
    outcome.unwrap_or_else(|error| panic!("{error}")).result
}

/// Submits a request, and waits for its outcome.
pub fn ask(device: &DeviceQueue, request: Request) -> Result<u32, Errno> {
    outcome_of(device, submit(device, request))
}

/// Waits until the heartbeat has advanced, which shows that the loop is not stuck.
pub fn beats(device: &DeviceQueue) {
    for _ in 0..3 {
        let before = device.host_heartbeat();
        eventually("a heartbeat", || device.host_heartbeat() != before);
    }
}

/// Returns bytes of a buffer.
pub fn contents(buffer: &Buffer, offset: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    buffer.read_at(offset, &mut bytes).expect("inside");
    bytes
}

/// Returns whether a buffer holds these bytes.
pub fn holds(buffer: &Buffer, offset: usize, bytes: &[u8]) -> bool {
    differs(buffer, offset, bytes).is_none()
}

/// Asserts that a buffer holds these bytes. The message gives the first one that differs.
#[track_caller]
pub fn assert_holds(buffer: &Buffer, offset: usize, bytes: &[u8]) {
    let at = differs(buffer, offset, bytes);
    assert_eq!(at, None, "the first byte that is wrong, of {}", bytes.len());
}

fn differs(buffer: &Buffer, offset: usize, bytes: &[u8]) -> Option<usize> {
    let mut found = vec![0; bytes.len()];
    buffer.read_at(offset, &mut found).expect("inside");
    found
        .iter()
        .zip(bytes)
        .position(|(found, byte)| found != byte)
}

/// Runs a function that must return, whatever hangs, in a thread of its own.
pub fn returns(what: &str, run: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(run);
    eventually(what, || thread.is_finished());
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
