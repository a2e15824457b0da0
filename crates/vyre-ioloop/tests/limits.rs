//! Limits of queues: operations and bytes in a second and in flight.

mod common;

use std::time::Duration;

use common::live::{plain, ways};
use common::manual::ManualTransport;
use common::*;
use vyre_ioloop::{Engine, IoLoop, LoopGroup, QueueError, QueueId, QueueLimits, QueueOptions};
use vyre_ioq::{DeviceQueue, Errno, Features, Queue, QueueLayout, Request, Ticket};
use vyre_uring::{SimTransport, Transport};

const FIRST: QueueId = QueueId::from_raw(0);
const MICROSECOND: Duration = Duration::from_micros(1);

/// Submits as many requests as there are free slots.
fn fill(device: &DeviceQueue, request: Request) -> Vec<Ticket> {
    std::iter::from_fn(|| device.submit(request).ok()).collect()
}

/// Takes the outcomes that are there, and returns their number.
fn take(device: &DeviceQueue, tickets: &mut Vec<Ticket>) -> u32 {
    let mut taken = 0;
    for ticket in std::mem::take(tickets) {
        match device.take(ticket) {
            Ok(outcome) => {
                outcome.result.unwrap();
                taken += 1;
            }
            Err(ticket) => tickets.push(ticket),
        }
    }
    taken
}

/// Five seconds of a queue that always has more to do, beside one without limits that gets all it asks for.
///
/// Rule: SEC-20.
#[test]
fn a_busy_queue_gets_its_rate_and_others_get_all() {
    const OPERATIONS: u64 = 1_000;
    const BYTES: u64 = 10_000_000;
    // Either of the limits is the lower one.
    for (size, rate) in [(4096, OPERATIONS), (40_000, BYTES / 40_000)] {
        let tables = Tables::new(1 << 16, 1 << 16);
        let read = Request::read(tables.file, 0, size).into_buffer(tables.pool, 0);
        let (limited_host, limited) = plain();
        let (host, other) = plain();
        let sim = SimTransport::builder(size.into()).build();
        let mut engine = tables.engine(sim, vec![limited_host, host]);
        let clock = engine.drive_clock();
        let limits = QueueLimits::new()
            .operations_per_second(OPERATIONS)
            .bytes_per_second(BYTES);
        engine.set_limits(FIRST, limits).unwrap();
        let (mut tickets, mut done) = (Vec::new(), 0);
        // A loop that comes late, by less than the burst.
        let step = Duration::from_millis(3);
        for _ in 0..5_001 / step.as_millis() {
            tickets.extend(fill(&limited, read));
            let mut theirs = vec![other.submit(read).unwrap()];
            while !theirs.is_empty() {
                let _ = engine.step();
                take(&other, &mut theirs);
            }
            done += u64::from(take(&limited, &mut tickets));
            clock.advance(step);
        }
        assert!(
            (5 * rate - 2..=5 * rate).contains(&done),
            "{done} of {}",
            5 * rate
        );
        engine.stop(Duration::ZERO).unwrap();
    }
}

/// The loop sleeps until the limits allow the next operation, and not for longer.
///
/// Rule: SEC-20.
#[test]
fn a_held_request_starts_at_its_time_and_its_deadline_holds() {
    let tables = Tables::new(4096, 4096);
    let read = Request::read(tables.file, 0, 64).into_buffer(tables.pool, 0);
    let mut rig = tables.on_sim(SimTransport::builder(7).build(), 8);
    let clock = rig.engine.drive_clock();
    rig.engine
        .set_limits(FIRST, QueueLimits::new().operations_per_second(1_000))
        .unwrap();
    assert_eq!(rig.run(read), Ok(64), "the first is due");
    let second = rig.submit(read);
    let timed = rig.submit(read.with_deadline(1_500));
    let last = rig.submit(read);
    let fence = rig.submit(Request::fence());
    rig.linger();
    assert!(rig.pending(&second));
    clock.advance(Duration::from_millis(1) - MICROSECOND);
    rig.linger();
    assert!(rig.pending(&second), "one microsecond too early");
    clock.advance(MICROSECOND);
    assert_eq!(rig.wait(second).result, Ok(64));
    clock.advance(Duration::from_micros(501));
    assert_eq!(rig.wait(timed).result, Err(Errno::ETIMEDOUT));
    rig.linger();
    assert!(
        rig.pending(&last) && rig.pending(&fence),
        "a fence waits for what is held"
    );
    clock.advance(Duration::from_micros(499));
    assert_eq!(rig.wait(last).result, Ok(64));
    assert_eq!(rig.wait(fence).result, Ok(0));
    assert_eq!(rig.engine.outstanding(), 0);
}

/// The queue is still held back when its backlog is empty again, and a request comes.
#[test]
fn a_request_that_times_out_while_it_is_held_makes_room_for_no_other() {
    let tables = Tables::new(4096, 4096);
    let read = Request::read(tables.file, 0, 64).into_buffer(tables.pool, 0);
    let mut rig = tables.on_sim(SimTransport::builder(7).build(), 8);
    let clock = rig.engine.drive_clock();
    rig.engine
        .set_limits(FIRST, QueueLimits::new().operations_per_second(1))
        .unwrap();
    assert_eq!(rig.run(read), Ok(64));
    let timed = rig.submit(read.with_deadline(1_000));
    rig.linger();
    clock.advance(Duration::from_micros(1_001));
    assert_eq!(rig.wait(timed).result, Err(Errno::ETIMEDOUT));
    let next = rig.submit(read);
    rig.linger();
    assert!(rig.pending(&next));
    clock.advance(Duration::from_secs(1));
    assert_eq!(rig.wait(next).result, Ok(64));
}

fn in_flight(engine: &Engine<ManualTransport>) -> u32 {
    engine.transport().in_flight()
}

/// Rule: SEC-20.
#[test]
fn no_more_is_in_flight_than_the_limits_allow() {
    let tables = Tables::new(1 << 16, 1 << 16);
    let read = |count| Request::read(tables.file, 0, count).into_buffer(tables.pool, 0);
    let [small, large] = [read(100), read(2_000)];
    let (limited_host, limited) = plain();
    let (host, other) = plain();
    let (transport, control) = ManualTransport::new(32);
    let mut engine = tables.engine(transport, vec![limited_host, host]);
    let limits = QueueLimits::new()
        .operations_in_flight(3)
        .bytes_in_flight(1_000);
    engine.set_limits(FIRST, limits).unwrap();

    let mut tickets = fill(&limited, small);
    linger(&mut engine);
    assert_eq!(in_flight(&engine), 3, "operations");
    // Nobody else waits for what the limits hold back.
    let waited = engine.counters().waited;
    let mut theirs = vec![other.submit(small).unwrap()];
    linger(&mut engine);
    assert_eq!((in_flight(&engine), engine.counters().waited), (4, waited));
    control.state().complete(|_| true);
    linger(&mut engine);
    assert_eq!(
        (take(&limited, &mut tickets), take(&other, &mut theirs)),
        (3, 1)
    );
    assert_eq!(in_flight(&engine), 3, "the next three");
    let waited = engine.counters().waited;
    let mut theirs = vec![other.submit(small).unwrap()];
    linger(&mut engine);
    assert_eq!((in_flight(&engine), engine.counters().waited), (4, waited));
    while !tickets.is_empty() {
        control.state().complete(|_| true);
        linger(&mut engine);
        assert!(in_flight(&engine) <= 3 + theirs.len() as u32);
        take(&limited, &mut tickets);
        take(&other, &mut theirs);
    }

    // While one that is longer than the limit is in flight, no other starts.
    let mut tickets = vec![
        limited.submit(large).unwrap(),
        limited.submit(small).unwrap(),
    ];
    linger(&mut engine);
    assert_eq!(in_flight(&engine), 1, "bytes");
    control.state().complete(|_| true);
    linger(&mut engine);
    assert_eq!(take(&limited, &mut tickets), 1);
    // Lifted while something is held back.
    let mut more = fill(&limited, large);
    linger(&mut engine);
    assert_eq!(
        in_flight(&engine),
        2,
        "less than the limit was in flight before the long one"
    );
    engine.set_limits(FIRST, QueueLimits::NONE).unwrap();
    linger(&mut engine);
    assert_eq!(in_flight(&engine) as usize, 1 + more.len());
    control.state().complete(|_| true);
    linger(&mut engine);
    assert_eq!(take(&limited, &mut more) as usize, 15);
    let unknown = QueueError::Unknown { queue: 2.into() };
    assert_eq!(engine.set_limits(2, QueueLimits::NONE), Err(unknown));
}

/// Requests that their limits hold back end with the stop, with the removal of their queue and at their cancellation.
#[test]
fn held_requests_end_with_their_queue() {
    let tables = Tables::new(4096, 4096);
    let read = Request::read(tables.file, 0, 64).into_buffer(tables.pool, 0);
    let hour = QueueLimits::new().bytes_per_second(1);
    let io = tables.builder().spawn().unwrap();
    let (host, device) = plain();
    let queue = io.add_queue(QueueOptions::new(host).limits(hour)).unwrap();
    let tickets = fill(&device, read);
    eventually("all are claimed", || {
        io.queue_counters(queue).unwrap().claimed == 16
    });
    let removed = io.remove_queue_within(queue, Duration::ZERO).unwrap();
    assert_eq!(removed.counters.failed, 15, "one had started");
    let outcomes: Vec<_> = tickets
        .into_iter()
        .map(|ticket| outcome_of(&device, ticket))
        .collect();
    assert_eq!(
        outcomes
            .iter()
            .filter(|it| **it == Err(Errno::ECANCELED))
            .count(),
        15
    );

    // The place of the removed queue is not held back.
    let (host, device) = plain();
    io.add_queue(host).unwrap();
    for ticket in fill(&device, read) {
        assert_eq!(outcome_of(&device, ticket), Ok(64));
    }
    let (host, device) = plain();
    io.add_queue(QueueOptions::new(host).limits(hour)).unwrap();
    let tickets = fill(&device, read);
    eventually("one has ended", || {
        io.queue_counters(2).unwrap().succeeded == 1
    });
    io.abort().unwrap();
    let ended = tickets
        .into_iter()
        .map(|ticket| outcome_of(&device, ticket));
    assert_eq!(ended.filter(|it| *it == Err(Errno::ECANCELED)).count(), 15);
}

/// Each policy and transport wakes up for what the limits held back, and lifted limits take effect at once.
#[test]
fn loops_wake_up_for_requests_that_were_held_back() {
    for options in ways() {
        let tables = Tables::new(4096, 4096);
        let read = Request::read(tables.file, 0, 64).into_buffer(tables.pool, 0);
        let rings = QueueLayout::with_slots(16).with_features(Features::DOORBELL);
        let (host, device) = Queue::anonymous(rings).unwrap();
        let limits = QueueLimits::new().operations_per_second(200);
        let queue = QueueOptions::new(host).limits(limits);
        let io = tables
            .builder()
            .options(options)
            .queue(queue)
            .spawn()
            .unwrap();
        for ticket in fill(&device, read) {
            assert_eq!(outcome_of(&device, ticket), Ok(64), "{options:?}");
        }
        let hours = QueueLimits::new()
            .operations_per_second(1)
            .bytes_per_second(1);
        io.set_queue_limits(FIRST, hours).unwrap();
        let tickets = fill(&device, read);
        io.set_queue_limits(FIRST, QueueLimits::NONE).unwrap();
        for ticket in tickets {
            assert_eq!(outcome_of(&device, ticket), Ok(64), "{options:?}");
        }
        io.stop().unwrap();
    }
}

#[test]
fn a_group_limits_each_queue_in_its_loop() {
    let tables = Tables::new(4096, 4096);
    let read = Request::read(tables.file, 0, 64).into_buffer(tables.pool, 0);
    let group = LoopGroup::builder()
        .loops(2)
        .files(tables.files)
        .buffers(tables.buffers);
    let (host, first) = plain();
    let hour = QueueLimits::new().bytes_per_second(1);
    let group = group
        .queue(QueueOptions::new(host).limits(hour))
        .spawn()
        .unwrap();
    let (host, second) = plain();
    let id = group.add_queue_on(1, host).unwrap();
    group.set_queue_limits(id, hour).unwrap();
    for (device, queue) in [(&first, FIRST), (&second, id)] {
        let tickets = fill(device, read);
        eventually("one ends", || {
            group.queue_counters(queue).unwrap().succeeded == 1
        });
        group.set_queue_limits(queue, QueueLimits::NONE).unwrap();
        for ticket in tickets {
            assert_eq!(outcome_of(device, ticket), Ok(64));
        }
    }
    let unknown = QueueError::Unknown { queue: 2.into() };
    assert_eq!(group.set_queue_limits(2, hour), Err(unknown));
    group.stop().unwrap();
}

#[test]
fn a_loop_that_has_ended_sets_no_limits() {
    let io = IoLoop::builder().spawn().unwrap();
    let unknown = QueueError::Unknown { queue: FIRST };
    assert_eq!(io.set_queue_limits(FIRST, QueueLimits::NONE), Err(unknown));
    io.stop().unwrap();
}
