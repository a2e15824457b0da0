//! Helpers that the tests share.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::pipe::pipe;
use vyre_uring::{
    Buffer, BufferSlot, Completion, FileSlot, Operation, Ring, RingBuilder, Transport,
};

pub(crate) const FILE: FileSlot = FileSlot::new(0);
pub(crate) const BUFFER: BufferSlot = BufferSlot::new(0);

/// Returns every combination of registered and plain files and buffers.
pub(crate) fn modes() -> impl Iterator<Item = RingBuilder> {
    [(true, true), (true, false), (false, true), (false, false)]
        .into_iter()
        .map(|(files, buffers)| {
            Ring::builder()
                .entries(8)
                .register_files(files)
                .register_buffers(buffers)
        })
}

pub(crate) fn owned(file: &File) -> Arc<OwnedFd> {
    Arc::new(file.try_clone().unwrap().into())
}

/// Builds a ring with a file and a buffer in the first slots.
pub(crate) fn ring_with(builder: RingBuilder, file: &File, len: usize) -> (Ring, Buffer) {
    let mut ring = builder.build().unwrap();
    let buffer = Buffer::anonymous(len).unwrap();
    ring.set_file(FILE, Some(owned(file))).unwrap();
    ring.set_buffer(BUFFER, Some(buffer.clone())).unwrap();
    (ring, buffer)
}

/// Builds a ring whose first file is the reading end of an empty pipe. Also returns the other end.
pub(crate) fn ring_on_pipe(builder: RingBuilder) -> (Ring, Buffer, OwnedFd) {
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
