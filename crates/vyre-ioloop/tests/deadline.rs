//! A deadline ends a request wherever it waits: in the kernel, in the backlog, or behind other
//! requests.

mod common;

use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::faulty::{Faulty, Meanwhile};
use common::manual::ManualTransport;
use common::*;
use vyre_ioloop::TestClock;
use vyre_ioq::{Errno, Queue, Request, Ticket};
use vyre_uring::{SimTransport, Transport};

const SOON: u32 = 2_000;

/// Rules: ABI-4.12, ABI-6.17.
#[test]
fn a_read_of_an_empty_pipe_times_out() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let (pool, memory) = (tables.pool, tables.memory.clone());
    let (host, device) = Queue::anonymous(layout(4)).unwrap();
    let io = tables.loop_on(host);
    let started = Instant::now();
    let read = Request::read(pipe, 0, 4)
        .into_buffer(pool, 0)
        .with_deadline(SOON);
    let ticket = device.submit(read).unwrap();
    assert_eq!(outcome_of(&device, ticket), Err(Errno::ETIMEDOUT));
    assert!(started.elapsed() >= Duration::from_micros(SOON.into()));
    // The kernel no longer uses the buffer: the bytes that come now are for the next read.
    writer.write_all(b"late").unwrap();
    std::thread::sleep(Duration::from_millis(10));
    assert_eq!(contents(&memory, 0, 4), [0; 4]);
    let next = Request::read(pipe, 0, 4).into_buffer(pool, 100);
    let ticket = device.submit(next).unwrap();
    assert_eq!(outcome_of(&device, ticket), Ok(4));
    assert_eq!(contents(&memory, 100, 4), b"late");
    assert!(io.counters().timed_out >= 1);
    io.stop().unwrap();
}

/// Moves the clock to just before the deadline, and then to it.
fn pass_deadline<T: Transport>(rig: &mut Rig<T>, clock: &TestClock, timed: &Ticket) {
    rig.linger();
    clock.advance(Duration::from_micros(u64::from(SOON) - 1));
    rig.linger();
    assert!(rig.pending(timed), "it is not over yet");
    clock.advance(Duration::from_micros(1));
}

/// Rule: ABI-6.17.
#[test]
fn a_request_in_the_backlog_times_out() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (transport, control) = ManualTransport::new(4);
    let mut rig = tables.on(transport, 8);
    let clock = rig.engine.drive_clock();
    let read = |offset| Request::read(file, 0, 64).into_buffer(pool, offset);
    let blockers = [0; 4].map(|_| rig.submit(read(0)));
    let untimed = rig.submit(read(128));
    let timed = rig.submit(read(64).with_deadline(SOON));
    let slot = timed.slot();
    pass_deadline(&mut rig, &clock, &timed);
    assert_eq!(rig.wait(timed).result, Err(Errno::ETIMEDOUT));
    assert!(blockers.iter().all(|blocker| rig.pending(blocker)) && rig.pending(&untimed));
    assert_eq!(rig.engine.outstanding(), 5);
    // The next request of its slot is served once. The request that timed out is not served after all.
    let next = rig.submit(read(64));
    assert_eq!(next.slot(), slot, "used again");
    rig.linger();
    for ticket in blockers.into_iter().chain([untimed, next]) {
        control.state().complete(|_| true);
        assert!(rig.wait(ticket).result.is_ok());
    }
    rig.linger();
    let counters = rig.engine.counters();
    assert_eq!((counters.operations, counters.stray), (6, 0));
}

/// More requests on a pipe than may be in the ring at once.
///
/// Rule: ABI-6.17.
#[test]
fn a_request_that_waits_for_another_on_a_pipe_times_out() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let pool = tables.pool;
    let mut rig = tables.on_transport(4, 8);
    let clock = rig.engine.drive_clock();
    let read = |offset| Request::read(pipe, 0, 4).into_buffer(pool, offset);
    let mut untimed = vec![rig.submit(read(0)), rig.submit(read(0))];
    untimed.push(rig.submit(read(4)));
    let timed = rig.submit(read(8).with_deadline(SOON));
    untimed.push(rig.submit(read(12)));
    pass_deadline(&mut rig, &clock, &timed);
    assert_eq!(rig.wait(timed).result, Err(Errno::ETIMEDOUT));
    assert!(untimed.iter().all(|ticket| rig.pending(ticket)));
    writer.write_all(&[1; 16]).unwrap();
    for outcome in rig.wait_all(untimed) {
        assert_eq!(outcome.result, Ok(4));
    }
    assert_eq!(rig.engine.outstanding(), 0);
}

/// Rule: ABI-6.17.
#[test]
fn a_fence_that_timed_out_does_not_affect_the_next_request_of_its_slot() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let (other_pipe, _other_writer) = tables.add_pipe();
    let pool = tables.pool;
    let mut rig = tables.on_transport(8, 8);
    let clock = rig.engine.drive_clock();
    let read = rig.submit(Request::read(pipe, 0, 4).into_buffer(pool, 0));
    let untimed = rig.submit(Request::fence());
    let timed = rig.submit(Request::fence().with_deadline(SOON));
    let slot = timed.slot();
    pass_deadline(&mut rig, &clock, &timed);
    assert_eq!(rig.wait(timed).result, Err(Errno::ETIMEDOUT));
    assert!(rig.pending(&untimed));
    let tenant = rig.submit(Request::read(other_pipe, 0, 4).into_buffer(pool, 8));
    assert_eq!(tenant.slot(), slot, "used again");
    rig.linger();
    writer.write_all(b"data").unwrap();
    assert_eq!(rig.wait(read).result, Ok(4));
    assert_eq!(rig.wait(untimed).result, Ok(0));
    rig.linger();
    assert!(rig.pending(&tenant), "not taken for the fence");
}

/// Rules: ABI-6.11, ABI-6.17.
#[test]
fn a_sync_that_waits_for_writes_times_out_and_the_next_one_still_waits() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (transport, control) = ManualTransport::new(8);
    let mut rig = tables.on(transport, 8);
    let clock = rig.engine.drive_clock();
    let write = |len| rig.submit(Request::write(file, 0, len).from_buffer(pool, 0));
    let writes = [write(100), write(200)];
    let sync = rig.submit(Request::sync(file).with_deadline(SOON));
    let slot = sync.slot();
    pass_deadline(&mut rig, &clock, &sync);
    assert_eq!(rig.wait(sync).result, Err(Errno::ETIMEDOUT));
    assert!(writes.iter().all(|write| rig.pending(write)));
    // The next one in its slot waits for both.
    let next = rig.submit(Request::sync(file));
    assert_eq!(next.slot(), slot, "used again");
    for len in [100, 200] {
        rig.linger();
        let mut state = control.state();
        assert!(state.flights.iter().all(|flight| flight.bytes() > 0));
        state.complete(|flight| flight.bytes() == len);
    }
    rig.linger();
    assert!(rig.pending(&next));
    control.state().complete(|_| true);
    assert_eq!(rig.wait(next).result, Ok(0));
    assert_eq!(rig.engine.counters().operations, 3);
}

/// Rule: ABI-6.17.
#[test]
fn a_request_that_completes_in_time_is_not_affected_by_its_deadline() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let mut rig = tables.on_transport(8, 8);
    for request in [
        Request::read(file, 0, 64).into_buffer(pool, 0),
        Request::write(file, 0, 64).from_buffer(pool, 0),
        Request::prefetch(file, 0, 64),
        Request::sync(file),
        Request::fence(),
    ] {
        assert!(rig.run(request.with_deadline(u32::MAX)).is_ok());
    }
    assert_eq!(rig.engine.counters().timed_out, 0);
}

/// The engine repeats a cancellation for which there was no room, and keeps the deadlines of the others
/// meanwhile.
///
/// Rule: ABI-6.17.
#[test]
fn a_deadline_is_kept_when_the_transport_has_no_room_to_cancel() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (faulty, orders) = Faulty::new(SimTransport::builder(1).stuck(1.0).build());
    let mut rig = tables.on(faulty, 8);
    let clock = rig.engine.drive_clock();
    orders.refuse_cancel.store(true, Ordering::Relaxed);
    let read = rig.submit(
        Request::read(file, 0, 64)
            .into_buffer(pool, 0)
            .with_deadline(SOON),
    );
    let fence = rig.submit(Request::fence().with_deadline(SOON));
    pass_deadline(&mut rig, &clock, &read);
    assert_eq!(rig.wait(fence).result, Err(Errno::ETIMEDOUT));
    rig.linger();
    assert!(rig.pending(&read));
    orders.refuse_cancel.store(false, Ordering::Relaxed);
    assert_eq!(rig.wait(read).result, Err(Errno::ETIMEDOUT));
}

/// The kernel can miss a request to cancel an operation.
///
/// Rule: ABI-6.17.
#[test]
fn a_cancellation_without_effect_is_repeated_every_20_ms() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (transport, control) = ManualTransport::new(8);
    let mut rig = tables.on(transport, 8);
    let clock = rig.engine.drive_clock();
    control.state().cancels = false;
    let read = Request::read(file, 0, 64).into_buffer(pool, 0);
    let timed = [1, 2].map(|n| rig.submit(read.with_deadline(n * SOON)));
    let untimed = rig.submit(read);
    pass_deadline(&mut rig, &clock, &timed[0]);
    rig.linger();
    assert_eq!(
        control.state().asked,
        1,
        "once, however many passes there are"
    );
    clock.advance(Duration::from_micros(SOON.into()));
    rig.linger();
    assert_eq!(control.state().asked, 2, "the other one");
    for round in 1..4 {
        clock.advance(Duration::from_millis(20));
        rig.linger();
        assert_eq!(control.state().asked, 2 + 2 * round);
    }
    control.state().cancels = true;
    clock.advance(Duration::from_millis(20));
    for ticket in timed {
        assert_eq!(rig.wait(ticket).result, Err(Errno::ETIMEDOUT));
    }
    let asked = control.state().asked;
    clock.advance(Duration::from_secs(1));
    rig.linger();
    assert_eq!(control.state().asked, asked, "nothing is left to ask for");
    assert!(rig.pending(&untimed));
}

/// The engine asks for a sleep that ends at the deadline, however long the caller allows.
///
/// Rule: ABI-6.17.
#[test]
fn no_sleep_lasts_beyond_the_next_deadline() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (transport, control) = ManualTransport::new(8);
    let mut rig = tables.on(transport, 8);
    let clock = rig.engine.drive_clock();
    let sleep = |rig: &mut Rig<ManualTransport>| {
        rig.engine.wait(LIMIT);
        control.state().sleeps.pop().flatten()
    };
    assert_eq!(sleep(&mut rig), Some(LIMIT));
    let read = rig.submit(
        Request::read(file, 0, 64)
            .into_buffer(pool, 0)
            .with_deadline(500),
    );
    let _ = rig.engine.step();
    assert_eq!(sleep(&mut rig), Some(Duration::from_micros(500)));
    clock.advance(Duration::from_micros(450));
    assert_eq!(sleep(&mut rig), Some(Duration::from_micros(50)));
    clock.advance(Duration::from_micros(50));
    assert_eq!(rig.wait(read).result, Err(Errno::ETIMEDOUT));
    assert_eq!(sleep(&mut rig), Some(LIMIT));
}

/// Rule: ABI-6.17.
#[test]
fn many_deadlines_at_once_are_all_kept() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, _writer) = tables.add_pipe();
    let (file, pool) = (tables.file, tables.pool);
    let (transport, control) = ManualTransport::new(4);
    let mut rig = tables.on(transport, 256);
    let clock = rig.engine.drive_clock();
    let mut tickets: Vec<_> = (0..256)
        .map(|n| match n % 8 {
            0 => Request::fence(),
            1 => Request::sync(file),
            2 => Request::write(file, 0, 1).from_buffer(pool, n),
            3 => Request::prefetch(file, 0, 64),
            4 => Request::read(file, 0, 1).into_buffer(pool, n),
            _ => Request::read(pipe, 0, 1).into_buffer(pool, n),
        })
        .enumerate()
        .map(|(n, request)| rig.submit(request.with_deadline(500 + n as u32)))
        .collect();
    let _ = rig.engine.step();
    clock.advance(Duration::from_micros(499));
    // Each ends at its own time.
    for kept in tickets.drain(..) {
        rig.linger();
        assert!(rig.pending(&kept));
        clock.advance(Duration::from_micros(1));
        assert_eq!(rig.wait(kept).result, Err(Errno::ETIMEDOUT));
    }
    assert_eq!(rig.engine.outstanding(), 0);
    assert!(control.state().flights.is_empty());
    assert_eq!(rig.engine.counters().timed_out, 256);
}

/// The second sweep claims both and defers them to the next pass.
///
/// Rule: ABI-6.17.
#[test]
fn the_deadline_of_a_deferred_barrier_counts_from_its_claim() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (slots, host, _device) = Slots::queue(64);
    let (faulty, orders) = Faulty::new(SimTransport::builder(1).capacity(512).stuck(1.0).build());
    let mut engine = tables.engine(faulty, vec![host]);
    let clock = engine.drive_clock();
    let memory = slots.clone();
    let happens = move |_| {
        memory.publish(2, &Request::fence().with_deadline(1_000));
        memory.publish(3, &Request::sync(file).with_deadline(1_000));
    };
    *orders.meanwhile.lock().unwrap() = Meanwhile(Some(Box::new(happens)));
    slots.publish(10, &Request::write(file, 0, 8).from_buffer(pool, 0));
    slots.publish(11, &Request::fence());
    assert_eq!(engine.step().claimed, 4);
    *orders.meanwhile.lock().unwrap() = Meanwhile::default();
    clock.advance(Duration::from_micros(1_000));
    let _ = engine.step();
    for slot in [2, 3] {
        assert_eq!(slots.outcome(slot), Some(Err(Errno::ETIMEDOUT)), "{slot}");
    }
    assert_eq!(engine.outstanding(), 2);
    engine.stop(LIMIT).expect("all of it ends");
}
