//! Helpers that the tests share.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::pipe::pipe;
use vyre_uring::{
    AnyTransport, Buffer, BufferSlot, Completion, FileSlot, KernelFeatures, Operation, Ring,
    RingBuilder, ThreadPool, ThreadPoolBuilder, Transport,
};

pub(crate) const FILE: FileSlot = FileSlot::new(0);
pub(crate) const BUFFER: BufferSlot = BufferSlot::new(0);

/// A builder of a transport.
pub(crate) trait Build {
    type Built: Transport;

    fn make(self) -> Self::Built;
}

impl Build for RingBuilder {
    type Built = Ring;

    fn make(self) -> Ring {
        self.build().unwrap()
    }
}

impl Build for ThreadPoolBuilder {
    type Built = ThreadPool;

    fn make(self) -> ThreadPool {
        self.build().unwrap()
    }
}

/// A transport to test, not built yet.
pub(crate) enum Mode {
    Ring(RingBuilder),
    ThreadPool(ThreadPoolBuilder),
}

impl Mode {
    /// Sets the number of slots of both tables.
    pub(crate) fn slots(self, slots: u32) -> Self {
        match self {
            Self::Ring(builder) => Self::Ring(builder.files(slots).buffers(slots)),
            Self::ThreadPool(builder) => Self::ThreadPool(builder.files(slots).buffers(slots)),
        }
    }
}

impl Build for Mode {
    type Built = AnyTransport;

    fn make(self) -> AnyTransport {
        match self {
            Self::Ring(builder) => AnyTransport::Ring(builder.make()),
            Self::ThreadPool(builder) => AnyTransport::ThreadPool(builder.make()),
        }
    }
}

/// Returns rings with every combination of registered and plain files and buffers, rings as on older kernels, and a pool
/// of threads.
pub(crate) fn modes() -> impl Iterator<Item = Mode> {
    let rings = [(true, true), (true, false), (false, true), (false, false)];
    let rings = rings.into_iter().map(|(files, buffers)| {
        let builder = Ring::builder().entries(8);
        builder.register_files(files).register_buffers(buffers)
    });
    let older = OLDER.map(|(major, minor)| {
        let lacking = KernelFeatures::newer_than(major, minor);
        Ring::builder().entries(8).withhold(lacking)
    });
    // Where a sandbox forbids io_uring_register.
    let unregistered = Ring::builder().entries(8).withhold(REGISTRATIONS);
    let rings = rings.chain(older).chain([unregistered]).map(Mode::Ring);
    let some = if has_ring() { usize::MAX } else { 0 };
    rings
        .take(some)
        .chain([Mode::ThreadPool(ThreadPool::builder().entries(8))])
}

/// Returns whether io_uring is allowed. If it is not, says that the test that asks is skipped in this respect.
pub(crate) fn has_ring() -> bool {
    match Ring::builder().entries(1).build() {
        Err(error) if error.refuses_ring() => {
            let thread = std::thread::current();
            let test = thread.name().unwrap_or("a test");
            let line = format!("SKIPPED: {test}: on a ring: {error}\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            false
        }
        _ => true,
    }
}

/// One kernel of each rung below the best: the last one that lacks what the next rung needs.
pub(crate) const OLDER: [(u32, u32); 6] = [(6, 5), (6, 0), (5, 19), (5, 18), (5, 17), (5, 10)];

/// All that `io_uring_register` does.
pub(crate) const REGISTRATIONS: KernelFeatures = KernelFeatures::RING_FD
    .union(KernelFeatures::FILES)
    .union(KernelFeatures::BUFFERS)
    .union(KernelFeatures::WORKER_BOUNDS)
    .union(KernelFeatures::WORKER_CORES)
    .union(KernelFeatures::SYNC_CANCEL)
    .union(KernelFeatures::PROBE);

/// Returns the number of completions that matched nothing.
pub(crate) fn strays(transport: &AnyTransport) -> u64 {
    match transport {
        AnyTransport::Ring(ring) => ring.stray_completions(),
        AnyTransport::ThreadPool(_) => 0,
    }
}

pub(crate) fn owned(file: &File) -> Arc<OwnedFd> {
    Arc::new(file.try_clone().unwrap().into())
}

/// Builds a transport with a file and a buffer in the first slots.
pub(crate) fn ring_with<B: Build>(builder: B, file: &File, len: usize) -> (B::Built, Buffer) {
    let mut ring = builder.make();
    let buffer = Buffer::anonymous(len).unwrap();
    ring.set_file(FILE, Some(owned(file))).unwrap();
    ring.set_buffer(BUFFER, Some(buffer.clone())).unwrap();
    (ring, buffer)
}

/// Builds a transport whose first file is the reading end of an empty pipe. Also returns the other end.
pub(crate) fn ring_on_pipe<B: Build>(builder: B) -> (B::Built, Buffer, OwnedFd) {
    let (reader, writer) = pipe().unwrap();
    let (ring, buffer) = ring_with(builder, &File::from(reader), 4096);
    (ring, buffer, writer)
}

pub(crate) fn read(offset: u64, buffer_offset: u64, len: u32) -> Operation {
    Operation::Read {
        file: FILE,
        offset,
        buffer: BUFFER,
        buffer_offset,
        len,
    }
}

pub(crate) fn write(offset: u64, buffer_offset: u64, len: u32) -> Operation {
    Operation::Write {
        file: FILE,
        offset,
        buffer: BUFFER,
        buffer_offset,
        len,
        durable: false,
    }
}

/// Reaps until so many completions have come. Fails after a long time.
pub(crate) fn reap_n<T: Transport>(transport: &mut T, count: usize) -> Vec<Completion> {
    let mut all = Vec::new();
    let started = Instant::now();
    while all.len() < count {
        transport.wait(Some(Duration::from_millis(100))).unwrap();
        transport.reap(|completion| all.push(completion));
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{} of {count} came",
            all.len()
        );
    }
    assert_eq!(all.len(), count, "more completions than operations");
    all
}

/// Runs one operation to its end.
pub(crate) fn run<T: Transport>(transport: &mut T, op: Operation) -> Completion {
    let token = transport.push(op, 99).unwrap();
    let completion = reap_n(transport, 1)[0];
    assert_eq!((completion.user, completion.token), (99, token));
    completion
}

pub(crate) fn contents(buffer: &Buffer, offset: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    buffer.read_at(offset, &mut bytes).unwrap();
    bytes
}

/// Returns bytes of which neighbours differ.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|index| (index * 7 + index / 251) as u8)
        .collect()
}
