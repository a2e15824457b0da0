//! A hostile device on one queue, and an honest one on another queue of the same loop. The honest one
//! is served as if it were alone.

mod common;

use std::time::{Duration, Instant};

use common::*;
use vyre_ioloop::{Engine, IoLoopBuilder};
use vyre_ioq::test_utils::{Adversary, Attack, GuardedMemory, HostileThread, Weights};
use vyre_ioq::{
    BufferHandle, DeviceQueue, Errno, FileHandle, HostQueue, Queue, QueueLayout, Request, Ticket,
};
use vyre_uring::{Buffer, SimTransport, Transport};

const FILE: usize = 1 << 16;
const PIECE: u32 = 512;
/// Slots of the honest queue; one piece of the buffer belongs to each.
const SLOTS: u32 = 16;
const HOSTILE_SLOTS: u32 = 128;

/// The requests of the honest device, and their checks.
struct Honest {
    device: DeviceQueue,
    file: FileHandle,
    pool: BufferHandle,
    memory: Buffer,
    expected: Vec<u8>,
}

impl Honest {
    /// Returns a request of one of several kinds whose outcome is known.
    fn request(&self, id: u32, slot: u32) -> (Request, Result<u32, Errno>) {
        let place = u64::from(slot * PIECE);
        let offset = u64::from(id * 37) % (FILE as u64 + 100);
        let rest = (FILE as u64).saturating_sub(offset).min(PIECE.into()) as u32;
        let read = |file, count| Request::read(file, offset, count).into_buffer(self.pool, place);
        let (request, result) = match id % 8 {
            0 => (Request::fence(), Ok(0)),
            1 => (
                read(FileHandle::from_raw(1 << 31), PIECE),
                Err(Errno::EBADF),
            ),
            2 => (Request::prefetch(self.file, 0, 4096), Ok(0)),
            3 if rest < PIECE => (read(self.file, PIECE).exact(), Err(Errno::ENODATA)),
            _ => (read(self.file, PIECE), Ok(rest)),
        };
        (request.with_tag(id), result)
    }

    /// Submits `requests` requests, several at a time. `turn` lets the loop run.
    fn run(&self, requests: u32, mut turn: impl FnMut()) {
        let mut held: Vec<(Ticket, u32)> = Vec::new();
        let (mut next, mut taken) = (0, 0);
        // Between two outcomes: how many come in a second is up to the machine.
        let mut latest = Instant::now();
        while taken < requests {
            assert!(
                latest.elapsed() < LIMIT,
                "{taken} of {requests} outcomes: {held:?}"
            );
            while next < requests && held.len() < SLOTS as usize {
                let reservation = self.device.reserve().expect("free");
                let place = (reservation.slot() * PIECE) as usize;
                let blank = [0xee; PIECE as usize];
                self.memory.write_at(place, &blank).expect("inside");
                let request = self.request(next, reservation.slot()).0;
                let ticket = self.device.publish(reservation, &request);
                held.push((ticket, next));
                next += 1;
            }
            turn();
            for (ticket, id) in std::mem::take(&mut held) {
                let slot = ticket.slot();
                match self.device.take(ticket) {
                    Ok(outcome) => {
                        let (request, result) = self.request(id, slot);
                        assert_eq!((outcome.tag, outcome.result), (id, result), "{request:?}");
                        self.check(slot, &request, result);
                        taken += 1;
                        latest = Instant::now();
                    }
                    Err(ticket) => held.push((ticket, id)),
                }
            }
        }
    }

    fn check(&self, slot: u32, request: &Request, result: Result<u32, Errno>) {
        let (Ok(moved @ 1..), vyre_ioq::Op::Read) = (result, request.op()) else {
            return;
        };
        let there = contents(&self.memory, (slot * PIECE) as usize, PIECE as usize);
        let (read, blank) = there.split_at(moved as usize);
        let from = request.file_offset() as usize;
        assert_eq!(read, &self.expected[from..from + read.len()], "{request:?}");
        assert!(blank.iter().all(|&byte| byte == 0xee), "{request:?}");
    }
}

/// Tables for both, the honest device, the two host ends, and the hostile device.
fn world(seed: u64, weights: Weights) -> (Tables, Honest, Vec<HostQueue>, Adversary) {
    let mut tables = Tables::new(FILE, (SLOTS * PIECE) as usize);
    let theirs = file_of(&[1; 300]);
    let their_file = tables
        .files
        .insert_range(theirs, 0..300, vyre_ioloop::Rights::all())
        .expect("fit");
    let their_buffer = tables.buffers.insert(memory(300)).expect("fit");
    let (host, device) = Queue::anonymous(layout(SLOTS)).expect("a queue");
    let layout = QueueLayout::with_slots(HOSTILE_SLOTS);
    let hostile = GuardedMemory::new(layout.bytes()).expect("memory");
    let hostile_host = HostQueue::create(hostile.region(), &layout).expect("fit");
    let honest = Honest {
        device,
        file: tables.file,
        pool: tables.pool,
        memory: tables.memory.clone(),
        expected: pattern(1, FILE),
    };
    let adversary = Adversary::new(hostile.region(), &layout, seed)
        .expect("fit")
        .weights(weights)
        .handles([their_file.raw(), their_buffer.raw()])
        // A device may use any handle of its own loop that it guesses. This test is not about that.
        .sparing([tables.file.raw(), tables.pool.raw()]);
    (tables, honest, vec![hostile_host, host], adversary)
}

fn check_counts(adversary: &Adversary) {
    assert!(adversary.count(Attack::BadRequest) > 0, "it did nothing");
    println!("{} hostile words meanwhile", adversary.words());
}

/// Steps an engine by hand, with a hostile device after each step or on a thread of its own.
fn against_an_engine<T: Transport>(transport: T, seed: u64, weights: Weights, threaded: bool) {
    let (tables, honest, queues, mut adversary) = world(seed, weights);
    let mut engine: Engine<T> = tables.engine(transport, queues);
    let serve = |engine: &mut Engine<T>| {
        if engine.step().is_idle() {
            engine.wait(Duration::from_micros(50));
        }
    };
    let adversary = if threaded {
        let thread: HostileThread = adversary.spawn().expect("a thread");
        honest.run(2_000, || serve(&mut engine));
        thread.stop()
    } else {
        honest.run(2_000, || {
            for _ in 0..16 {
                adversary.step();
            }
            serve(&mut engine);
        });
        adversary
    };
    check_counts(&adversary);
    assert_eq!(engine.failure(), None);
    engine.stop(LIMIT).expect("all of it ends");
    assert_eq!(engine.outstanding(), 0);
    for queue in 0..2 {
        let counters = engine.queue_counters(queue).expect("a queue");
        assert_eq!(counters.claimed, counters.succeeded + counters.failed);
    }
    assert_eq!(engine.queue_counters(1).expect("a queue").device_faults, 0);
    assert_eq!(engine.counters().stray, 0);
}

fn sim(seed: u64) -> SimTransport {
    SimTransport::builder(seed)
        .capacity(16)
        .max_latency(4)
        .reorder(true)
        .short(0.3)
        .interrupted(0.2)
        .build()
}

/// Rules: SEC-4, SEC-5.
#[test]
fn every_attack_between_the_steps_of_a_simulated_loop() {
    for seed in 0..4 {
        against_an_engine(sim(seed), seed, Weights::all(), false);
    }
}

/// Rule: SEC-5.
#[test]
fn bad_requests_between_the_steps_of_a_simulated_loop() {
    against_an_engine(sim(5), 5, Weights::well_formed(), false);
}

/// Rules: ABI-1.5, SEC-3.
#[test]
fn every_attack_during_the_steps_of_a_simulated_loop() {
    against_an_engine(sim(6), 6, Weights::all(), true);
}

/// Rules: SEC-4, SEC-5.
#[test]
fn every_attack_between_the_steps_of_a_real_ring() {
    against_an_engine(transport(64), 7, Weights::all(), false);
}

/// Rules: ABI-1.5, SEC-3.
#[test]
fn every_attack_during_the_steps_of_a_real_ring() {
    against_an_engine(transport(64), 8, Weights::all(), true);
}

/// Rule: SEC-5.
#[test]
fn a_running_loop_serves_its_other_queue_as_if_there_were_no_attack() {
    for (seed, weights) in [(9, Weights::all()), (10, Weights::well_formed())] {
        let (tables, honest, queues, adversary) = world(seed, weights);
        let builder = queues
            .into_iter()
            .fold(tables.builder(), IoLoopBuilder::queue);
        let io = builder.spawn().expect("io_uring");
        let thread = adversary.spawn().expect("a thread");
        honest.run(5_000, std::thread::yield_now);
        check_counts(&thread.stop());
        assert!(io.is_running());
        assert_eq!(
            honest.device.host_state(),
            Some(vyre_ioq::LoopState::Running)
        );
        let before = io.queue_counters(1).expect("a queue");
        assert_eq!(before.device_faults, 0);
        io.stop().expect("an orderly end");
    }
}
