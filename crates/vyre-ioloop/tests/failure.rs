//! Tests of loops whose transport fails for good, or whose thread panics.

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use common::faulty::Faulty;
use common::*;
use vyre_ioq::{Errno, LoopState, Request};
use vyre_uring::{Busy, SimTransport};

const SOON: Duration = Duration::from_millis(20);

/// Rule: ABI-4.11.
#[test]
fn a_panic_shows_failed_and_every_request_gets_an_outcome() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (faulty, orders) = Faulty::new(SimTransport::builder(1).stuck(1.0).build());
    let mut rig = tables.on(faulty, 64);
    let mut tickets = vec![rig.submit(Request::read(file, 0, 64).into_buffer(pool, 0))];
    let _ = rig.engine.step();
    tickets.push(rig.submit(Request::read(file, 0, 64).into_buffer(pool, 0)));
    tickets.push(rig.submit(Request::fence()));
    orders.panic_in_submit.store(true, Ordering::Relaxed);
    let Rig { mut engine, device } = rig;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _ = engine.step();
        unreachable!("it panics, and drops the engine on its way");
    }));
    assert!(panicked.is_err());
    assert_eq!(device.host_state(), Some(LoopState::Failed));
    for ticket in tickets {
        assert!(device.poll(&ticket).is_some(), "slot {}", ticket.slot());
    }
}

/// Rule: ABI-4.11.
#[test]
fn a_fatal_submit_error_completes_its_batch_with_the_errno() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let sim = SimTransport::builder(1).fatal_submit(1, vyre_uring::Errno::BADF);
    let mut rig = tables.on_sim(sim.build(), 64);
    assert_eq!(
        rig.run(Request::read(file, 0, 64).into_buffer(pool, 0)),
        Ok(64)
    );
    assert_eq!(rig.engine.failure(), None);
    let batch: Vec<_> = (0..5)
        .map(|n| rig.submit(Request::read(file, 0, 64).into_buffer(pool, n * 64)))
        .collect();
    let outcomes = rig.wait_all(batch);
    assert!(outcomes.iter().all(|o| o.result == Err(Errno::EBADF)));
    assert_eq!(rig.engine.failure(), Some(vyre_uring::Errno::BADF));
    // Nothing is served any more, and every request gets an outcome.
    let late = Request::read(file, 0, 64).into_buffer(pool, 0);
    assert_eq!(rig.run(late), Err(Errno::EBADF));
    rig.engine.fail(LIMIT).unwrap();
    assert_eq!(rig.device.host_state(), Some(LoopState::Failed));
}

#[test]
fn a_fatal_wait_error_is_recorded() {
    let (faulty, orders) = Faulty::new(SimTransport::builder(1).build());
    let mut rig = Tables::new(16, 64).on(faulty, 4);
    orders.fail_wait.store(true, Ordering::Relaxed);
    rig.engine.wait(SOON);
    assert_eq!(rig.engine.failure(), Some(vyre_uring::Errno::BADF));
}

/// The kernel may hold an operation that the engine did not record before the panic. Its request gets
/// no outcome.
///
/// Rule: ABI-4.12.
#[test]
fn an_operation_that_a_panic_left_unrecorded_gets_no_outcome() {
    for deferred in [false, true] {
        let tables = Tables::new(4096, 4096);
        let (file, pool) = (tables.file, tables.pool);
        let (faulty, orders) = Faulty::new(SimTransport::builder(1).hung(1.0).build());
        let (slots, host, device) = Slots::queue(4);
        let mut engine = tables.engine(faulty, vec![host]);
        orders.full.store(deferred, Ordering::Relaxed);
        slots.publish(0, &Request::read(file, 0, 64).into_buffer(pool, 0));
        if deferred {
            let _ = engine.step();
            orders.full.store(false, Ordering::Relaxed);
        }
        orders.panic_after_push.store(true, Ordering::Relaxed);
        let stepped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.step()));
        assert!(stepped.is_err());
        assert_eq!(engine.fail(Duration::ZERO), Err(Busy::new(1)));
        assert_eq!(slots.outcome(0), None);
        assert_eq!(device.host_state(), Some(LoopState::Failed));
    }
}

/// Rule: ABI-4.11.
#[test]
fn an_outcome_decided_before_a_panic_is_stored() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (faulty, orders) = Faulty::new(SimTransport::builder(1).hung(1.0).build());
    let (slots, host, _device) = Slots::queue(4);
    let mut engine = tables.engine(faulty, vec![host]);
    orders.panic_after_push.store(true, Ordering::Relaxed);
    slots.publish(0, &Request::read(file, 0, 0).into_buffer(pool, 0));
    slots.publish(1, &Request::read(file, 0, 64).into_buffer(pool, 0));
    let stepped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.step()));
    assert!(stepped.is_err());
    assert_eq!(engine.fail(Duration::ZERO), Err(Busy::new(1)));
    assert_eq!(slots.outcome(0), Some(Ok(0)));
    assert_eq!(slots.outcome(1), None);
}

/// Other requests that are published make no difference.
///
/// Rule: ABI-4.11.
#[test]
fn barriers_behind_an_operation_that_a_panic_left_unrecorded_complete_once() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (faulty, orders) = Faulty::new(SimTransport::builder(1).stuck(1.0).build());
    let (slots, host, device) = Slots::queue(4);
    let mut engine = tables.engine(faulty, vec![host]);
    orders.full.store(true, Ordering::Relaxed);
    slots.publish(0, &Request::write(file, 0, 64).from_buffer(pool, 0));
    let _ = engine.step();
    slots.publish(1, &Request::sync(file));
    slots.publish(2, &Request::fence());
    let _ = engine.step();
    orders.full.store(false, Ordering::Relaxed);
    orders.panic_after_push.store(true, Ordering::Relaxed);
    let stepped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.step()));
    assert!(stepped.is_err());
    slots.publish(3, &Request::fence());
    assert_eq!(engine.fail(Duration::ZERO), Ok(()));
    for slot in 0..4 {
        assert_eq!(slots.outcome(slot), Some(Err(Errno::ECANCELED)), "{slot}");
    }
    assert_eq!(engine.queue_counters(0).unwrap().failed, 4);
    assert_eq!(device.host_state(), Some(LoopState::Failed));
}

/// The very first submission fails, with nothing in flight before it.
#[test]
fn a_fatal_error_of_the_first_submit_completes_its_batch_with_the_errno() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let sim = SimTransport::builder(0).fatal_submit(0, vyre_uring::Errno::NOMEM);
    let mut rig = tables.on_sim(sim.build(), 8);
    let tickets: Vec<_> = (0..8)
        .map(|_| rig.submit(Request::read(file, 0, 64).into_buffer(pool, 0)))
        .collect();
    for outcome in rig.wait_all(tickets) {
        assert_eq!(outcome.result, Err(Errno::from_raw(libc::ENOMEM as u32)));
    }
}
