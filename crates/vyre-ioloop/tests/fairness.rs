//! The share of the transport and of a pass that each queue of a loop gets.

mod common;

use std::time::{Duration, Instant};

use common::manual::{Control, Flight, ManualTransport};
use common::*;
use proptest::prelude::*;
use vyre_ioloop::{Engine, IoLoop};
use vyre_ioq::{BufferHandle, DeviceQueue, Errno, FileHandle, Queue, Request};
use vyre_uring::{SimTransport, Transport};

const MIB: u32 = 1 << 20;

/// Most bytes of one operation, of one turn of a queue, and of one pass.
const OPERATION: u32 = MIB;
const TURN: u32 = MIB;
const PASS: u32 = 8 * MIB;

/// An engine and the devices of its queues.
struct QueuesRig<T: Transport> {
    engine: Engine<T>,
    devices: Vec<DeviceQueue>,
    file: FileHandle,
    pool: BufferHandle,
}

fn rig_of<T: Transport>(transport: T, tables: Tables, queues: usize, slots: u32) -> QueuesRig<T> {
    let (file, pool) = (tables.file, tables.pool);
    let (hosts, devices) = (0..queues)
        .map(|_| Queue::anonymous(layout(slots)).expect("a queue"))
        .unzip();
    QueuesRig {
        engine: tables.engine(transport, hosts),
        devices,
        file,
        pool,
    }
}

fn manual(capacity: u32, queues: usize, slots: u32) -> (QueuesRig<ManualTransport>, Control) {
    let (manual, control) = ManualTransport::new(capacity);
    let tables = Tables::new(4096, 64 << 20);
    (rig_of(manual, tables, queues, slots), control)
}

impl<T: Transport> QueuesRig<T> {
    fn read(&self, bytes: u32) -> Request {
        Request::read(self.file, 0, bytes).into_buffer(self.pool, 0)
    }

    fn submit(&self, queue: usize, request: Request) {
        let _ticket = self.devices[queue].submit(request).expect("a free slot");
    }

    /// Steps until a request has its outcome.
    fn outcome_of(&mut self, queue: usize, request: Request) -> Result<u32, Errno> {
        let mut ticket = self.devices[queue].submit(request).expect("a free slot");
        let end = Instant::now() + LIMIT;
        loop {
            ticket = match self.devices[queue].take(ticket) {
                Ok(outcome) => return outcome.result,
                Err(ticket) => ticket,
            };
            assert!(Instant::now() < end, "without an outcome");
            if self.engine.step().is_idle() {
                self.engine.wait(Duration::from_micros(100));
            }
        }
    }
}

/// Reads of empty pipes may never end, and there are more of them than the ring has entries.
///
/// Rule: SEC-13.
#[test]
fn endless_reads_delay_neither_their_own_queue_nor_another() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, _writer) = tables.add_pipe();
    let mut rig = rig_of(transport(64), tables, 2, 512);
    let (file, pool) = (rig.file, rig.pool);
    for _ in 0..300 {
        rig.submit(0, Request::read(pipe, 0, 4).into_buffer(pool, 0));
    }
    for queue in [0, 1] {
        assert_eq!(rig.outcome_of(queue, rig.read(64)), Ok(64));
        let write = Request::write(file, 0, 64).from_buffer(pool, 0);
        assert_eq!(rig.outcome_of(queue, write), Ok(64));
        assert_eq!(rig.outcome_of(queue, Request::sync(file)), Ok(0));
        let prefetch = Request::prefetch(file, 0, 64);
        assert_eq!(rig.outcome_of(queue, prefetch), Ok(0));
    }
    assert_eq!(rig.outcome_of(1, Request::fence()), Ok(0));
    assert_eq!(rig.engine.outstanding(), 300);
    rig.engine.stop(LIMIT).expect("pipes can be left");
}

/// Rule: SEC-13.
#[test]
fn endless_reads_delay_no_other_queue_of_a_running_loop() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, _writer) = tables.add_pipe();
    let (file, pool) = (tables.file, tables.pool);
    let queue = |slots| Queue::anonymous(layout(slots)).expect("a queue");
    let ((first, hostile), (second, device)) = (queue(512), queue(4));
    let io: IoLoop = tables
        .builder()
        .queue(first)
        .queue(second)
        .spawn()
        .expect("io_uring");
    for _ in 0..300 {
        let _ticket = hostile
            .submit(Request::read(pipe, 0, 4).into_buffer(pool, 0))
            .expect("a free slot");
    }
    eventually("the reads are claimed", || {
        io.queue_counters(0).expect("a queue").claimed == 300
    });
    for request in [
        Request::read(file, 0, 64).into_buffer(pool, 0),
        Request::fence(),
        Request::sync(file),
    ] {
        let ticket = device.submit(request).expect("a free slot");
        assert!(outcome_of(&device, ticket).is_ok());
    }
    io.abort().expect("pipes can be left");
}

/// Requests that are parked behind others on a pipe proceed one by one.
///
/// Rule: SEC-13.
#[test]
fn pipe_requests_beyond_the_limit_are_served_in_order() {
    let (mut rig, control) = {
        let mut tables = Tables::new(4096, 4096);
        let (pipe, _) = tables.add_pipe();
        let (manual, control) = ManualTransport::new(16);
        let rig = rig_of(manual, tables, 2, 64);
        for n in 0..32 {
            rig.submit(0, Request::read(pipe, 0, 4).into_buffer(rig.pool, n));
        }
        (rig, control)
    };
    let mut seen = Vec::new();
    while seen.len() < 32 {
        let _ = rig.engine.step();
        let mut state = control.state();
        assert!((1..=2).contains(&state.flights.len()), "half of a reserve");
        seen.extend(state.pushed.drain(..).map(|flight| match flight.op {
            vyre_uring::Operation::Read { buffer_offset, .. } => buffer_offset,
            other => panic!("{other:?}"),
        }));
        let first = seen.len();
        state.complete(|_| true);
        assert!(first > 0);
    }
    let _ = rig.engine.step();
    assert_eq!(seen, (0..32).collect::<Vec<_>>());
    assert_eq!(rig.engine.outstanding(), 0);
}

/// One queue uses files that never answer. A quarter of the entries is available to the other queue at
/// once.
///
/// Rule: SEC-12.
#[test]
fn a_queue_that_starts_late_has_its_reserve() {
    let (mut rig, control) = manual(16, 2, 64);
    for _ in 0..64 {
        let write = Request::write(rig.file, 0, 64).from_buffer(rig.pool, 0);
        rig.submit(0, write);
    }
    for _ in 0..3 {
        let _ = rig.engine.step();
    }
    assert_eq!(
        control.state().flights.len(),
        12,
        "its own and what is lent"
    );
    for request in [rig.read(64), rig.read(64), Request::sync(rig.file)] {
        rig.submit(1, request);
    }
    rig.submit(1, Request::fence());
    let _ = rig.engine.step();
    assert_eq!(
        control.state().flights.len(),
        15,
        "in the pass that claims them"
    );
    control.state().complete(|flight| flight.queue == 1);
    let _ = rig.engine.step();
    assert_eq!(
        rig.engine.outstanding(),
        64,
        "all requests of the late queue have outcomes"
    );
}

#[test]
fn a_single_queue_may_use_the_whole_transport() {
    let (mut rig, control) = manual(16, 1, 64);
    for _ in 0..64 {
        rig.submit(0, rig.read(64));
    }
    let _ = rig.engine.step();
    assert_eq!(control.state().flights.len(), 16);
}

/// The kernel copies cached bytes while the thread of the loop waits for it.
///
/// Rule: SEC-12.
#[test]
fn large_requests_are_served_in_pieces_and_delay_no_deadline() {
    let (mut rig, control) = manual(256, 2, 64);
    let clock = rig.engine.drive_clock();
    for _ in 0..64 {
        rig.submit(0, rig.read(64 * MIB));
    }
    let mut timed = None;
    let mut passes = 0;
    let before = rig.devices[0].host_heartbeat().expect("a header");
    while rig.engine.outstanding() > 0 || passes == 0 {
        let _ = rig.engine.step();
        passes += 1;
        let mut state = control.state();
        let bytes: u32 = state.pushed.iter().map(Flight::bytes).sum();
        assert!(bytes <= PASS, "{bytes} in one pass");
        assert!(state.pushed.iter().all(|f| f.bytes() <= OPERATION));
        state.pushed.clear();
        state.complete(|flight| flight.queue == 0);
        drop(state);
        // The requests of the other queue are claimed in one pass and expire in the next.
        timed = match timed.take() {
            None => {
                let fence = Request::fence().with_deadline(1);
                Some(rig.devices[1].submit(fence).expect("a free slot"))
            }
            Some(ticket) => {
                clock.advance(Duration::from_micros(1));
                let outcome = rig.devices[1].take(ticket).expect("completed");
                let expected = [Ok(0), Err(Errno::ETIMEDOUT)];
                assert!(expected.contains(&outcome.result));
                None
            }
        };
    }
    // All bytes are moved, at most one turn for each pass.
    assert!(passes >= 64 * 64 / (PASS / MIB), "{passes} passes");
    let beats = rig.devices[0].host_heartbeat().expect("a header") - before;
    assert!(
        beats >= passes / 20,
        "{beats} heartbeats in {passes} passes"
    );
}

#[test]
fn a_request_in_pieces_has_one_outcome() {
    let tables = Tables::new(0, 8 << 20);
    let bytes = pattern(5, 5 * MIB as usize + 77);
    std::os::unix::fs::FileExt::write_all_at(&tables.disk, &bytes, 0).expect("room");
    let memory = tables.memory.clone();
    let mut rig = rig_of(transport(8), tables, 1, 8);
    let whole = rig.read(bytes.len() as u32).exact();
    assert_eq!(rig.outcome_of(0, whole), Ok(bytes.len() as u32));
    assert_eq!(contents(&memory, 0, bytes.len()), bytes);
    // A request that reaches beyond the end of the file gets a short count.
    assert_eq!(rig.outcome_of(0, rig.read(8 * MIB)), Ok(bytes.len() as u32));
    let write = Request::write(rig.file, 3, 6 * MIB).from_buffer(rig.pool, 0);
    assert_eq!(rig.outcome_of(0, write.durable()), Ok(6 * MIB));
}

proptest! {
    #![proptest_config(keeping(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fairness.regressions")))]

    /// While a queue has requests that it may submit, each other queue submits at most one turn, and
    /// the excess of one operation.
    ///
    /// Rule: SEC-12.
    #[test]
    fn no_queue_waits_longer_than_one_turn_of_each_other_queue(
        queues in 2..5_usize,
        more in 0..40_u32,
        requests in prop::collection::vec((any::<prop::sample::Index>(), 1..40_u32), 1..200),
        kept in any::<prop::sample::Index>(),
        keeps in any::<bool>(),
    ) {
        // At least one entry for each queue.
        let (mut rig, control) = manual(queues as u32 + more, queues, 256);
        let kept = kept.index(queues);
        let mut left = vec![0_u64; queues];
        for (queue, size) in requests {
            // From 4 KiB to 3 MiB.
            let bytes = if size < 20 { size << 12 } else { (size - 19) * (MIB / 7) };
            let queue = queue.index(queues);
            rig.submit(queue, rig.read(bytes));
            left[queue] += u64::from(bytes);
        }
        let mut since = vec![0_u64; queues];
        let bound = u64::from(queues as u32 * (TURN + OPERATION) + PASS);
        for _ in 0..10_000 {
            let _ = rig.engine.step();
            let mut state = control.state();
            let pushed = std::mem::take(&mut state.pushed);
            for flight in &pushed {
                let owner = flight.queue as usize;
                left[owner] -= u64::from(flight.bytes());
                for waited in &mut since {
                    *waited += u64::from(flight.bytes().max(TURN / 32));
                }
                since[owner] = 0;
            }
            for queue in 0..queues {
                let is_kept = keeps && queue == kept;
                prop_assert!(
                    left[queue] == 0 || is_kept || since[queue] <= bound,
                    "queue {queue} has waited for {} bytes", since[queue],
                );
            }
            state.complete(|flight| !keeps || flight.queue as usize != kept);
            let over = left.iter().enumerate().all(|(queue, &left)| {
                left == 0 || (keeps && queue == kept)
            });
            if over {
                return Ok(());
            }
        }
        prop_assert!(false, "unserved: {left:?}");
    }
}

/// Two queues are always full. The third is served all the same: each pass sweeps all queues, and the
/// backlogs are served in turn.
///
/// Rule: SEC-12.
#[test]
fn several_queues_are_served_fairly() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let queue = || Queue::anonymous(layout(256)).unwrap();
    let (mut hosts, mut devices) = (Vec::new(), Vec::new());
    for (host, device) in [queue(), queue(), queue()] {
        hosts.push(host);
        devices.push(device);
    }
    let sim = SimTransport::builder(2).capacity(8).build();
    let mut engine = tables.engine(sim, hosts);
    let read = Request::read(file, 0, 16).into_buffer(pool, 0);
    // The first two are filled again after each pass.
    let mut busy: Vec<Vec<_>> = vec![Vec::new(), Vec::new()];
    for _ in 0..50 {
        for (device, tickets) in devices.iter().zip(&mut busy) {
            let old = std::mem::take(tickets);
            tickets.extend(
                old.into_iter()
                    .filter_map(|ticket| device.take(ticket).err()),
            );
            while let Ok(ticket) = device.submit(read) {
                tickets.push(ticket);
            }
        }
        let mut seldom = Some(devices[2].submit(read).unwrap());
        // 8 requests are served in each pass, so no request waits for more passes than the backlogs
        // hold.
        for pass in 0.. {
            let _ = engine.step();
            seldom = match devices[2].take(seldom.take().unwrap()) {
                Ok(outcome) => {
                    assert_eq!(outcome.result, Ok(16));
                    break;
                }
                Err(ticket) => Some(ticket),
            };
            assert!(pass < 2 * 512 / 8, "overtaken for ever");
        }
    }
    let served = [0, 1].map(|queue| engine.queue_counters(queue).unwrap().succeeded);
    assert!(
        served[0] * 2 > served[1] && served[1] * 2 > served[0],
        "{served:?}"
    );
}
