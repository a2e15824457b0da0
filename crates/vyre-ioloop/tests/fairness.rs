//! Share of the transport's entries, and of a pass, that each queue of a loop gets.

mod common;

use std::time::{Duration, Instant};

use common::manual::{Control, Flight, ManualTransport};
use common::*;
use proptest::prelude::*;
use vyre_ioloop::{Engine, IoLoop};
use vyre_ioq::{BufferHandle, DeviceQueue, Errno, FileHandle, Queue, QueueLayout, Request};
use vyre_uring::{SimTransport, Transport};

const MIB: u32 = 1 << 20;

/// Largest number of bytes of one operation, of a queue's turn and of a pass.
const OPERATION: u32 = MIB;
const TURN: u32 = MIB;
const PASS: u32 = 8 * MIB;

/// Devices of queues that one engine serves.
struct Shop<T: Transport> {
    engine: Engine<T>,
    devices: Vec<DeviceQueue>,
    file: FileHandle,
    pool: BufferHandle,
}

fn shop<T: Transport>(transport: T, tables: Tables, queues: usize, slots: u32) -> Shop<T> {
    let (file, pool) = (tables.file, tables.pool);
    let (hosts, devices) = (0..queues)
        .map(|_| Queue::anonymous(QueueLayout::with_slots(slots)).expect("a queue"))
        .unzip();
    Shop {
        engine: tables.engine(transport, hosts),
        devices,
        file,
        pool,
    }
}

fn manual(capacity: u32, queues: usize, slots: u32) -> (Shop<ManualTransport>, Control) {
    let (manual, control) = ManualTransport::new(capacity);
    let tables = Tables::new(4096, 64 << 20);
    (shop(manual, tables, queues, slots), control)
}

impl<T: Transport> Shop<T> {
    fn read(&self, bytes: u32) -> Request {
        Request::read(self.file, 0, bytes).into_buffer(self.pool, 0)
    }

    fn submit(&self, queue: usize, request: Request) {
        let _ticket = self.devices[queue].submit(request).expect("a free slot");
    }

    /// Steps until a request is answered.
    fn answer(&mut self, queue: usize, request: Request) -> Result<u32, Errno> {
        let mut ticket = self.devices[queue].submit(request).expect("a free slot");
        let end = Instant::now() + LIMIT;
        loop {
            ticket = match self.devices[queue].take(ticket) {
                Ok(outcome) => return outcome.result,
                Err(ticket) => ticket,
            };
            assert!(Instant::now() < end, "unanswered");
            if self.engine.step().is_idle() {
                self.engine.wait(Duration::from_micros(100));
            }
        }
    }
}

/// The kernel may keep reads of empty pipes for ever, and there are more of them than the ring has
/// entries.
///
/// Rule: SEC-13.
#[test]
fn endless_reads_delay_neither_their_own_queue_nor_another() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, _writer) = tables.add_pipe();
    let mut shop = shop(ring(64), tables, 2, 512);
    let (file, pool) = (shop.file, shop.pool);
    for _ in 0..300 {
        shop.submit(0, Request::read(pipe, 0, 4).into_buffer(pool, 0));
    }
    for queue in [0, 1] {
        assert_eq!(shop.answer(queue, shop.read(64)), Ok(64));
        let write = Request::write(file, 0, 64).from_buffer(pool, 0);
        assert_eq!(shop.answer(queue, write), Ok(64));
        assert_eq!(shop.answer(queue, Request::sync(file)), Ok(0));
        let prefetch = Request::prefetch(file, 0, 64);
        assert_eq!(shop.answer(queue, prefetch), Ok(0));
    }
    assert_eq!(shop.answer(1, Request::fence()), Ok(0));
    assert_eq!(shop.engine.in_flight(), 300);
    shop.engine.stop(LIMIT).expect("pipes can be left");
}

/// Rule: SEC-13.
#[test]
fn endless_reads_delay_no_other_queue_of_a_running_loop() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, _writer) = tables.add_pipe();
    let (file, pool) = (tables.file, tables.pool);
    let queue = |slots| Queue::anonymous(QueueLayout::with_slots(slots)).expect("a queue");
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
        assert!(answer(&device, ticket).is_ok());
    }
    io.abort().expect("pipes can be left");
}

/// Those that wait for their turn on a pipe go on one by one.
///
/// Rule: SEC-13.
#[test]
fn pipe_requests_beyond_the_limit_are_served_in_order() {
    let (mut shop, control) = {
        let mut tables = Tables::new(4096, 4096);
        let (pipe, _) = tables.add_pipe();
        let (manual, control) = ManualTransport::new(16);
        let shop = shop(manual, tables, 2, 64);
        for n in 0..32 {
            shop.submit(0, Request::read(pipe, 0, 4).into_buffer(shop.pool, n));
        }
        (shop, control)
    };
    let mut seen = Vec::new();
    while seen.len() < 32 {
        let _ = shop.engine.step();
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
    let _ = shop.engine.step();
    assert_eq!(seen, (0..32).collect::<Vec<_>>());
    assert_eq!(shop.engine.in_flight(), 0);
}

/// Files that never answer: a quarter of the entries is still there for the other queue, at once.
///
/// Rule: SEC-12.
#[test]
fn a_queue_that_starts_late_has_its_reserve() {
    let (mut shop, control) = manual(16, 2, 64);
    for _ in 0..64 {
        let write = Request::write(shop.file, 0, 64).from_buffer(shop.pool, 0);
        shop.submit(0, write);
    }
    for _ in 0..3 {
        let _ = shop.engine.step();
    }
    assert_eq!(
        control.state().flights.len(),
        12,
        "its own and what is lent"
    );
    for request in [shop.read(64), shop.read(64), Request::sync(shop.file)] {
        shop.submit(1, request);
    }
    shop.submit(1, Request::fence());
    let _ = shop.engine.step();
    assert_eq!(
        control.state().flights.len(),
        15,
        "in the pass that claims them"
    );
    control.state().complete(|flight| flight.queue == 1);
    let _ = shop.engine.step();
    assert_eq!(
        shop.engine.in_flight(),
        64,
        "all of the late one's are answered"
    );
}

#[test]
fn a_single_queue_may_use_the_whole_transport() {
    let (mut shop, control) = manual(16, 1, 64);
    for _ in 0..64 {
        shop.submit(0, shop.read(64));
    }
    let _ = shop.engine.step();
    assert_eq!(control.state().flights.len(), 16);
}

/// The kernel copies cached bytes while the loop's thread waits for it.
///
/// Rule: SEC-12.
#[test]
fn large_requests_are_served_in_pieces_and_delay_no_deadline() {
    let (mut shop, control) = manual(256, 2, 64);
    let clock = shop.engine.drive_clock();
    for _ in 0..64 {
        shop.submit(0, shop.read(64 * MIB));
    }
    let mut timed = None;
    let mut passes = 0;
    let before = shop.devices[0].host_heartbeat().expect("a header");
    while shop.engine.in_flight() > 0 || passes == 0 {
        let _ = shop.engine.step();
        passes += 1;
        let mut state = control.state();
        let bytes: u32 = state.pushed.iter().map(Flight::bytes).sum();
        assert!(bytes <= PASS, "{bytes} in one pass");
        assert!(state.pushed.iter().all(|f| f.bytes() <= OPERATION));
        state.pushed.clear();
        state.complete(|flight| flight.queue == 0);
        drop(state);
        // The other queue's requests are claimed in one pass, and expire in the next.
        timed = match timed.take() {
            None => {
                let fence = Request::fence().with_deadline(1);
                Some(shop.devices[1].submit(fence).expect("a free slot"))
            }
            Some(ticket) => {
                clock.advance(Duration::from_micros(1));
                let outcome = shop.devices[1].take(ticket).expect("answered");
                let expected = [Ok(0), Err(Errno::ETIMEDOUT)];
                assert!(expected.contains(&outcome.result));
                None
            }
        };
    }
    // All of it, and no faster than it may be.
    assert!(passes >= 64 * 64 / (PASS / MIB), "{passes} passes");
    let beats = shop.devices[0].host_heartbeat().expect("a header") - before;
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
    let mut shop = shop(ring(8), tables, 1, 8);
    let whole = shop.read(bytes.len() as u32).exact();
    assert_eq!(shop.answer(0, whole), Ok(bytes.len() as u32));
    assert_eq!(contents(&memory, 0, bytes.len()), bytes);
    // Beyond the end of the file there is a short count.
    assert_eq!(shop.answer(0, shop.read(8 * MIB)), Ok(bytes.len() as u32));
    let write = Request::write(shop.file, 3, 6 * MIB).from_buffer(shop.pool, 0);
    assert_eq!(shop.answer(0, write.durable()), Ok(6 * MIB));
}

proptest! {
    #![proptest_config(keeping(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fairness.regressions")))]

    /// While a queue has something to give and may, the others give no more than a turn each, and
    /// what one operation exceeds it by.
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
        // An entry for each is the least.
        let (mut shop, control) = manual(queues as u32 + more, queues, 256);
        let kept = kept.index(queues);
        let mut left = vec![0_u64; queues];
        for (queue, size) in requests {
            // From 4 KiB to 3 MiB.
            let bytes = if size < 20 { size << 12 } else { (size - 19) * (MIB / 7) };
            let queue = queue.index(queues);
            shop.submit(queue, shop.read(bytes));
            left[queue] += u64::from(bytes);
        }
        let mut since = vec![0_u64; queues];
        let bound = u64::from(queues as u32 * (TURN + OPERATION) + PASS);
        for _ in 0..10_000 {
            let _ = shop.engine.step();
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

/// A queue that is always full of work does not keep another from being served: in each pass both
/// are looked at, and who waits for room is served in turn.
///
/// Rule: SEC-12.
#[test]
fn several_queues_are_served_fairly() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let queue = || Queue::anonymous(QueueLayout::with_slots(256)).unwrap();
    let (mut hosts, mut devices) = (Vec::new(), Vec::new());
    for (host, device) in [queue(), queue(), queue()] {
        hosts.push(host);
        devices.push(device);
    }
    let sim = SimTransport::builder(2).capacity(8).build();
    let mut engine = tables.engine(sim, hosts);
    let read = Request::read(file, 0, 16).into_buffer(pool, 0);
    // The first two are filled to the brim again after each pass.
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
        // At most as many passes as the line is long, with 8 served in each.
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
