//! The bare layout of vyre 0.7: every length, every alignment, and every byte of a slot in every state.
//! Devices of that version rely on these bytes: the host changes STATUS alone.

mod common;

use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::*;
use vyre_ioloop::{BufferTable, Engine, FileTable, IoLoop, Rights};
use vyre_ioq::abi::{status, word};
use vyre_ioq::{
    BufferHandle, DeviceQueue, FileHandle, HostQueue, Region, Request, Ticket, WaitError,
};
use vyre_uring::{AnyTransport, Buffer};

const FILE: FileHandle = FileHandle::from_raw(0x07);
const POOL: BufferHandle = BufferHandle::from_raw(0x09);
const MOST: usize = 64;

/// Words of a cache line: alignments beyond it make no difference.
const LINE: usize = 16;

/// Bytes that each slot of the longest queue reads.
const PIECE: usize = 40;

/// The value of the words around a queue.
const GUARD: u32 = 0xdead_beef;

struct Queue {
    slots: Slots,
    device: DeviceQueue,
    tickets: Vec<Ticket>,
}

/// Every length at some alignment, and every alignment at three lengths.
fn shapes() -> Vec<(usize, usize)> {
    let lengths = (1..=MOST).map(|slots| (1 + slots % LINE, slots));
    let alignments = (1..=LINE).flat_map(|start| [1, 3, MOST].map(|slots| (start, slots)));
    lengths.chain(alignments).collect()
}

/// Rule: ABI-2.2.
#[test]
fn every_length_and_every_alignment_is_served() {
    let bytes = pattern(1, MOST * PIECE);
    let pool = memory(MOST * PIECE);
    let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
    let file = files.insert(file_of(&bytes), Rights::READ).expect("fits");
    let pages = buffers.insert_pages(pool.clone(), PIECE as u64, Rights::WRITE);
    let pages = pages.expect("fit");
    let (mut queues, mut hosts) = (Vec::new(), Vec::new());
    for (start, count) in shapes() {
        let (slots, host, device) = Slots::bare_at(start, count);
        for word in slots.neighbours() {
            word.store(GUARD, Ordering::Relaxed);
        }
        assert_eq!(host.geometry().slots() as usize, count);
        assert_eq!(slots.region().as_ptr().addr() % 64, start % LINE * 4);
        hosts.push(host);
        queues.push(Queue {
            slots,
            device,
            tickets: Vec::new(),
        });
    }
    let mut engine = Engine::new(transport(64), files, buffers, hosts).expect("accepted");
    for (queue, (start, count)) in queues.iter_mut().zip(shapes()) {
        let clean = vec![0; MOST * PIECE];
        pool.write_at(0, &clean).expect("inside");
        for (slot, &page) in pages.iter().enumerate().take(count) {
            let read =
                Request::read(file, (slot * PIECE) as u64, PIECE as u32).into_buffer(page, 0);
            let ticket = queue
                .device
                .submit(read.with_tag(slot as u32))
                .expect("free");
            assert_eq!(ticket.slot() as usize, slot);
            queue.tickets.push(ticket);
        }
        assert!(queue.device.reserve().is_err(), "{count} slots, no more");
        let tickets = &queue.tickets;
        eventually("the reads", || {
            let _ = engine.step();
            tickets
                .iter()
                .all(|ticket| queue.device.poll(ticket).is_some())
        });
        for (slot, ticket) in queue.tickets.drain(..).enumerate() {
            let outcome = queue.device.take(ticket).expect("polled before");
            assert_eq!(
                (outcome.tag, outcome.bytes()),
                (slot as u32, Ok(PIECE as u32))
            );
        }
        let (read, rest) = (count * PIECE, (MOST - count) * PIECE);
        assert!(contents(&pool, 0, read) == bytes[..read], "{count} slots");
        assert_eq!(contents(&pool, read, rest), clean[read..], "the rest");
        for word in queue.slots.neighbours() {
            let word = word.load(Ordering::Relaxed);
            assert_eq!(word, GUARD, "{count} slots, {start} words after a page");
        }
    }
    assert_eq!(engine.outstanding(), 0);
}

/// A file with bytes past 4 GiB, one buffer, and a queue of three slots, of which the middle one is
/// used.
struct World {
    slots: Slots,
    engine: Engine<AnyTransport>,
    pool: Buffer,
}

const SLOT: u32 = 1;
const PLACE: u64 = 0x1_2345_6789;

/// The bytes of the file from that offset to its end.
const HELD: u32 = 300;

impl World {
    fn new() -> Self {
        let file = file_of(&[]);
        file.write_all_at(&pattern(3, HELD as usize), PLACE)
            .expect("a sparse file");
        let pool = memory(512);
        let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
        files
            .insert_at(FILE, file, 0..1 << 40, Rights::all())
            .expect("fits");
        buffers
            .insert_at(POOL, pool.clone(), 0..512, Rights::all())
            .expect("fits");
        let (slots, host, _device) = Slots::bare_at(3, 3);
        let engine = Engine::new(transport(8), files, buffers, vec![host]).expect("accepted");
        Self {
            slots,
            engine,
            pool,
        }
    }

    /// Publishes word by word as a device of that version does, steps until the request is served, and
    /// compares all 32 bytes before and after each step.
    fn goes(&mut self, words: [u32; 8], published: [u8; 32], outcome: u8) {
        let with = |status: u8| {
            let mut bytes = published;
            bytes[24] = status;
            bytes
        };
        for (word, value) in words.into_iter().enumerate() {
            self.slots.store(SLOT, word, value);
        }
        self.check("EMPTY", with(0x00));
        let _ = self.engine.step();
        self.check("EMPTY, and swept", with(0x00));
        assert_eq!(published, with(0x01), "the bytes given are those");
        // The second publication stores STATUS alone: the request must be unchanged.
        for _ in 0..2 {
            self.is_served(with, outcome);
        }
        self.slots.store(SLOT, 6, status::EMPTY);
        let _ = self.engine.step();
        self.check("EMPTY again", with(0x00));
    }

    fn is_served(&mut self, with: impl Fn(u8) -> [u8; 32], outcome: u8) {
        self.slots.store(SLOT, 6, status::PUBLISHED);
        self.check("PUBLISHED", with(0x01));
        // A completion of this step is reaped in the next.
        let progress = self.engine.step();
        assert_eq!(progress.claimed, 1);
        if outcome == 0x10 {
            self.check("CLAIMED", with(0x02));
        }
        eventually("the outcome", || {
            let _ = self.engine.step();
            self.slots.outcome(SLOT).is_some()
        });
        self.check("completed", with(outcome));
        let _ = self.engine.step();
        self.check("completed, and polled", with(outcome));
    }

    fn check(&self, state: &str, expected: [u8; 32]) {
        assert_eq!(self.slots.bare_bytes(SLOT), expected, "{state}");
        for other in [0, 2] {
            assert_eq!(self.slots.bare_bytes(other), [0; 32], "{state}: {other}");
        }
    }
}

/// Rules: ABI-2.5, ABI-4.7.
#[test]
#[rustfmt::skip]
fn the_slot_of_a_read_has_the_defined_bytes_in_every_state() {
    let mut world = World::new();
    world.goes(
        [1, 0x07, 0x09, 0x2345_6789, 1, 512, 0, 0x4433_2211],
        [
            0x01, 0, 0, 0,           0x07, 0, 0, 0,  0x09, 0, 0, 0,  0x89, 0x67, 0x45, 0x23,
            0x01, 0, 0, 0,           0, 0x02, 0, 0,  0x01, 0, 0, 0,  0x11, 0x22, 0x33, 0x44,
        ],
        0x10,
    );
    let mut arrived = pattern(3, HELD as usize);
    arrived.resize(512, 0);
    assert_eq!(contents(&world.pool, 0, 512), arrived);
}

/// Rules: ABI-2.5, ABI-4.7.
#[test]
#[rustfmt::skip]
fn the_slot_of_a_write_has_the_defined_bytes_in_every_state() {
    let mut world = World::new();
    world.pool.write_at(0, &pattern(4, 512)).expect("inside");
    world.goes(
        [2, 0x09, 0x07, 0x2345_6789, 2, 511, 0, 1],
        [
            0x02, 0, 0, 0,  0x09, 0, 0, 0,     0x07, 0, 0, 0,  0x89, 0x67, 0x45, 0x23,
            0x02, 0, 0, 0,  0xff, 0x01, 0, 0,  0x01, 0, 0, 0,  0x01, 0, 0, 0,
        ],
        0x10,
    );
    world.pool.write_at(0, &[0; 512]).expect("inside");
    world.goes(
        [1, 0x07, 0x09, 0x2345_6789, 2, 512, 0, 2],
        [
            0x01, 0, 0, 0,  0x07, 0, 0, 0,  0x09, 0, 0, 0,  0x89, 0x67, 0x45, 0x23,
            0x02, 0, 0, 0,  0, 0x02, 0, 0,  0x01, 0, 0, 0,  0x02, 0, 0, 0,
        ],
        0x10,
    );
    assert_eq!(contents(&world.pool, 0, 511), pattern(4, 511));
}

/// Rules: ABI-2.5, ABI-4.7.
#[test]
#[rustfmt::skip]
fn the_slot_of_a_failed_request_has_the_defined_bytes_in_every_state() {
    let mut world = World::new();
    // An unknown handle, and an unknown operation.
    world.goes(
        [1, 0x08, 0x09, 0, 0, 512, 0, u32::MAX],
        [
            0x01, 0, 0, 0,  0x08, 0, 0, 0,  0x09, 0, 0, 0,  0, 0, 0, 0,
            0, 0, 0, 0,     0, 0x02, 0, 0,  0x01, 0, 0, 0,  0xff, 0xff, 0xff, 0xff,
        ],
        0x11,
    );
    world.goes(
        [0xaa, 0, 0, 0, 0, 512, 0, 0],
        [
            0xaa, 0, 0, 0,  0, 0, 0, 0,     0, 0, 0, 0,     0, 0, 0, 0,
            0, 0, 0, 0,     0, 0x02, 0, 0,  0x01, 0, 0, 0,  0, 0, 0, 0,
        ],
        0x11,
    );
    assert_eq!(contents(&world.pool, 0, 512), [0; 512]);
}

/// The bare layout has no flags, no reserved words and no buffer offset. The words there belong to the
/// next slot.
///
/// Rule: ABI-2.3.
#[test]
fn the_next_slot_is_not_read_as_the_second_half_of_a_bare_slot() {
    let tables = Tables::new(4096, 4096);
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    let (slots, host, _device) = Slots::bare(64);
    let mut engine = tables.engine(transport(8), vec![host]);
    for number in 0..8 {
        slots.store(6, number, u32::MAX);
    }
    slots.store(6, word::STATUS, 0);
    slots.publish(5, &Request::read(file, 8, 64).into_buffer(pool, 0));
    eventually("the read", || {
        let _ = engine.step();
        slots.outcome(5) == Some(Ok(64))
    });
    assert_eq!(contents(&memory, 0, 64), pattern(1, 4096)[8..72]);
}

/// Rule: ABI-2.5.
#[test]
fn an_unknown_operation_completes_with_an_error_and_leaves_count() {
    let (slots, host, _device) = Slots::bare(4);
    let mut engine = Tables::new(16, 64).engine(transport(8), vec![host]);
    slots.publish_words(1, &[7; 16]);
    let _ = engine.step();
    assert_eq!(slots.load(1, word::STATUS), status::ERROR);
    assert_eq!(slots.load(1, word::COUNT), 7, "the device's own");
}

#[test]
fn a_bare_queue_is_served_with_page_handles_and_chosen_handles() {
    let mut files = FileTable::new();
    let mut buffers = BufferTable::new();
    let disk = file_of(&pattern(1, 4096));
    files
        .insert_at(FileHandle::from_raw(9), disk, 0..4096, Rights::READ)
        .unwrap();
    let memory = memory(16 * 256 + 100);
    let pages = buffers
        .insert_pages(memory.clone(), 256, Rights::WRITE)
        .unwrap();
    assert_eq!(pages.len(), 16, "what fills no page is left out");
    let (slots, host, device) = Slots::bare(64);
    let io = IoLoop::builder()
        .files(files)
        .buffers(buffers)
        .queue(host)
        .spawn()
        .unwrap();
    let tickets: Vec<_> = (0..16)
        .map(|n| {
            Request::read(FileHandle::from_raw(9), n * 256, 256).into_buffer(pages[n as usize], 0)
        })
        .map(|request| device.submit(request.with_tag(77)).unwrap())
        .collect();
    for ticket in tickets {
        assert_eq!(outcome_of(&device, ticket), Ok(256));
    }
    assert_eq!(contents(&memory, 0, 4096), pattern(1, 4096));
    assert_eq!(slots.load(0, word::TAG), 77, "the tag is the device's own");
    io.stop().unwrap();
}

/// A device made the queue and published in it before there was a host.
///
/// Rule: ABI-7.18.
#[test]
fn requests_published_before_the_loop_started_are_served() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let memory = Slots::new(16 * 32, 0, 8);
    memory.publish(7, &Request::read(file, 0, 64).into_buffer(pool, 0));
    let host = HostQueue::attach_bare(memory.region()).unwrap();
    assert_eq!(
        host.published().collect::<Vec<_>>(),
        [7],
        "polled, not claimed"
    );
    let io = tables.loop_on(host);
    eventually("the read", || memory.outcome(7) == Some(Ok(64)));
    io.stop().unwrap();
    let unfit = HostQueue::attach_bare(Region::allocate(33).unwrap()).unwrap_err();
    assert!(unfit.to_string().contains("multiple of 32"), "{unfit}");
}

/// Nobody serves the queue, and it has no state that could say so.
///
/// Rule: ABI-7.6.
#[test]
fn a_wait_on_a_bare_queue_without_a_host_ends_at_its_limit() {
    let (_slots, host, device) = Slots::bare(4);
    drop(host);
    assert_eq!((device.host_state(), device.host_heartbeat()), (None, None));
    let ticket = device.submit(Request::fence()).expect("a free slot");
    let waited = device.wait_for(ticket, Duration::from_millis(20));
    assert!(
        matches!(waited, Err(WaitError::TimedOut { .. })),
        "{waited:?}"
    );
}
