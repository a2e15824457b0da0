//! The loop of `vyre-ioloop` on the transport, driven step by step.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::time::Duration;

use consumer_memory::MemoryTransport;
use vyre_ioloop::{BufferTable, Engine, FileTable, Rights};
use vyre_ioq::{
    BufferHandle, DeviceQueue, Errno, FileHandle, LoopState, Queue, QueueLayout, Request, Ticket,
};
use vyre_uring::Buffer;

const TEXT: &[u8] = b"in memory, and on the disk only when asked";
const ROOM: usize = 64;

struct World {
    engine: Engine<MemoryTransport>,
    device: DeviceQueue,
    disk: File,
    memory: Buffer,
    file: FileHandle,
    pool: BufferHandle,
}

/// A queue of 8 slots on a transport that takes `capacity` operations at once.
fn world(capacity: usize) -> World {
    let mut disk = tempfile::tempfile().expect("a file");
    disk.write_all(TEXT).expect("room");
    let mut files = FileTable::new();
    let shared = disk.try_clone().expect("a descriptor");
    let file = files.insert(shared, Rights::all()).expect("it fits");
    let memory = Buffer::anonymous(4096).expect("memory");
    let mut buffers = BufferTable::new();
    let pool = buffers.insert(memory.clone()).expect("it fits");
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(8)).expect("memory");
    let transport = MemoryTransport::new(capacity, 4, 4, ROOM);
    let engine = Engine::new(transport, files, buffers, vec![host]).expect("it fits");
    World {
        engine,
        device,
        disk,
        memory,
        file,
        pool,
    }
}

impl World {
    fn ask(&self, request: Request) -> Ticket {
        self.device.submit(request).expect("a free slot")
    }

    fn run(&mut self, request: Request) -> Result<u32, Errno> {
        let mut ticket = self.ask(request);
        for _ in 0..10 {
            let _ = self.engine.step();
            match self.device.take(ticket) {
                Ok(outcome) => return outcome.bytes(),
                Err(pending) => ticket = pending,
            }
        }
        panic!("no outcome in ten steps");
    }

    fn on_disk(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.disk.rewind().expect("a file");
        self.disk.read_to_end(&mut bytes).expect("a file");
        bytes
    }
}

#[test]
fn reads_come_from_memory_and_end_with_the_file() {
    let mut world = world(8);
    let (file, pool) = (world.file, world.pool);
    let len = TEXT.len() as u32;
    let read = |offset, count| Request::read(file, offset, count).into_buffer(pool, 100);
    assert_eq!(world.run(read(3, 6)), Ok(6));
    let mut bytes = [0; 6];
    world.memory.read_at(100, &mut bytes).expect("inside");
    assert_eq!(bytes, TEXT[3..9]);
    assert_eq!(world.run(read(0, 3996)), Ok(len));
    assert_eq!(world.run(read(u64::from(len), 1)), Ok(0));
    assert_eq!(world.run(read(10, 3996).exact()), Err(Errno::ENODATA));
    assert_eq!(world.run(read(0, 3997)), Err(Errno::ERANGE));
}

#[test]
fn writes_reach_the_disk_when_they_are_to() {
    let mut world = world(8);
    let (file, pool) = (world.file, world.pool);
    let write = |offset, count| Request::write(file, offset, count).from_buffer(pool, 0);
    world.memory.write_at(0, b"IN MEMORY").expect("inside");
    assert_eq!(world.run(write(0, 9)), Ok(9));
    assert_eq!(world.on_disk(), TEXT);
    assert_eq!(world.run(Request::sync(file)), Ok(0));
    let mut expected = TEXT.to_vec();
    expected[..9].copy_from_slice(b"IN MEMORY");
    assert_eq!(world.on_disk(), expected);

    world.memory.write_at(0, b"!!").expect("inside");
    let end = TEXT.len() as u64;
    assert_eq!(world.run(write(end, 2).durable()), Ok(2));
    expected.extend(b"!!");
    assert_eq!(world.on_disk(), expected);
    assert_eq!(world.run(write(ROOM as u64, 1)), Err(Errno::ENOSPC));
}

#[test]
fn more_requests_than_the_transport_takes_wait_their_turn() {
    let mut world = world(2);
    let (file, pool) = (world.file, world.pool);
    let read = |tag| {
        Request::read(file, u64::from(tag), 1)
            .into_buffer(pool, u64::from(tag))
            .with_tag(tag)
    };
    let reads: Vec<Ticket> = (0..7).map(|tag| world.ask(read(tag))).collect();
    let fence = world.ask(Request::fence());
    let mut steps = 0;
    while world.device.poll(&fence).is_none() {
        assert!(steps < 20, "no end in sight");
        let _ = world.engine.step();
        steps += 1;
    }
    assert!(steps >= 4, "seven operations, two at a time");
    for ticket in reads {
        let outcome = world.device.take(ticket).expect("before the fence");
        assert_eq!(outcome.bytes(), Ok(1));
    }
    let mut bytes = [0; 7];
    world.memory.read_at(0, &mut bytes).expect("inside");
    assert_eq!(bytes, TEXT[..7]);
}

#[test]
fn the_engine_ends_on_it() {
    let mut world = world(2);
    let (file, pool) = (world.file, world.pool);
    let reads = [0, 1, 2].map(|at| world.ask(Request::read(file, at, 1).into_buffer(pool, at)));
    let _ = world.engine.step();
    world.engine.stop(Duration::ZERO).expect("nothing is kept");
    assert_eq!(world.device.host_state(), Some(LoopState::Stopped));
    let answers = reads.map(|ticket| world.device.take(ticket).expect("an outcome").bytes());
    assert_eq!(answers, [Ok(1), Ok(1), Err(Errno::ECANCELED)]);
}
