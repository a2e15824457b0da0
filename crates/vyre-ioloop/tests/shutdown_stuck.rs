//! Shutdown while the kernel holds operations: their requests get no outcome, and all others get one.

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use common::faulty::Faulty;
use common::*;
use vyre_ioloop::{Engine, StopError};
use vyre_ioq::abi::{status, word};
use vyre_ioq::{DeviceQueue, Errno, LoopState, Queue, Request};
use vyre_uring::{Busy, SimTransport};

const SOON: Duration = Duration::from_millis(20);

/// Rules: ABI-4.12, ABI-7.12.
#[test]
fn a_stop_reports_operations_that_the_kernel_holds_and_they_get_no_outcome() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let sim = SimTransport::builder(1).hung(1.0).build();
    let mut rig = tables.on_sim(sim, 64);
    let kept: Vec<_> = (0..3)
        .map(|n| rig.submit(Request::read(file, 0, 64).into_buffer(pool, n * 64)))
        .collect();
    let fence = rig.submit(Request::fence());
    let _ = rig.engine.step();
    let busy = Busy::new(3);
    assert_eq!(rig.engine.stop(Duration::ZERO), Err(busy));
    assert_eq!(
        rig.engine.stop(Duration::ZERO),
        Err(busy),
        "asked again, it does not claim that the buffers are free"
    );
    assert_eq!(rig.device.host_state(), Some(LoopState::Failed));
    assert_eq!(rig.engine.outstanding(), 4);
    for ticket in kept.into_iter().chain([fence]) {
        assert!(rig.pending(&ticket), "the kernel may write to the buffer");
    }
}

/// So are fences that wait for none of the requests that the kernel holds.
///
/// Rule: ABI-4.11.
#[test]
fn requests_that_the_kernel_does_not_hold_are_completed() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    // One operation at a time: the first read hangs in the transport, and the rest is in the backlog.
    let sim = SimTransport::builder(1).hung(1.0).capacity(1).build();
    let (host, device) = Queue::anonymous(layout(16)).unwrap();
    let (other_host, other) = Queue::anonymous(layout(4)).unwrap();
    let mut engine = tables.engine(sim, vec![host, other_host]);
    let read = |n: u64| Request::read(file, 0, 64).into_buffer(pool, n * 64);
    let submit = |device: &DeviceQueue, request| device.submit(request).unwrap();
    let before = submit(&device, Request::write(file, 0, 8).from_buffer(pool, 0));
    let kept = [before, submit(&device, Request::fence())];
    let mut completed = vec![
        submit(&device, read(1)),
        // Waits for the write, and touches no buffer.
        submit(&device, Request::sync(file)),
    ];
    let _ = engine.step();
    let late = submit(&device, read(2));
    let elsewhere = submit(&other, read(3));
    let fence = submit(&other, Request::fence());
    let _ = engine.step();
    completed.push(late);
    assert_eq!(engine.stop(Duration::ZERO), Err(Busy::new(1)));
    for ticket in completed {
        assert_eq!(device.poll(&ticket).unwrap().result, Err(Errno::ECANCELED));
    }
    assert_eq!(
        other.poll(&elsewhere).unwrap().result,
        Err(Errno::ECANCELED)
    );
    assert_eq!(
        other.poll(&fence).unwrap().result,
        Ok(0),
        "all before it have ended"
    );
    for ticket in kept {
        assert!(device.poll(&ticket).is_none(), "slot {}", ticket.slot());
    }
    for device in [device, other] {
        assert_eq!(device.host_state(), Some(LoopState::Failed));
    }
}

/// Failed says that there will be no more outcomes.
///
/// Rule: ABI-7.1.
#[test]
fn a_completion_after_failed_stores_no_outcome() {
    let tables = Tables::new(4096, 4096);
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    let (slots, host, device) = Slots::queue(4);
    let (faulty, orders) = Faulty::new(SimTransport::builder(3).max_latency(9).build());
    let mut engine: Engine<_> = tables.engine(faulty, vec![host]);
    slots.publish(0, &Request::read(file, 0, 64).into_buffer(pool, 0));
    let _ = engine.step();
    orders.busy.store(1, Ordering::Relaxed);
    assert_eq!(engine.stop(SOON), Err(Busy::new(1)));
    assert_eq!(device.host_state(), Some(LoopState::Failed));
    assert_eq!(slots.outcome(0), None);
    let revoked = engine.revoke_buffer(pool).unwrap();
    assert!(!engine.is_revoked(revoked), "the kernel may write to it");
    slots.publish(1, &Request::read(file, 0, 64).into_buffer(pool, 0));
    for _ in 0..20 {
        let progress = engine.step();
        assert_eq!((progress.claimed, progress.started), (0, 0));
    }
    assert_eq!(contents(&memory, 0, 64), pattern(1, 64), "it came late");
    assert!(engine.is_revoked(revoked), "and is over");
    orders.busy.store(0, Ordering::Relaxed);
    assert_eq!(engine.stop(SOON), Ok(()));
    for slot in 0..2 {
        assert_eq!(slots.outcome(slot), None, "slot {slot}");
    }
    assert_eq!(device.host_state(), Some(LoopState::Failed));
    assert_eq!(engine.outstanding(), 1);
}

/// A bare queue has no state: CLAIMED keeps the device and the next host from the slot.
///
/// Rule: ABI-7.12.
#[test]
fn a_bare_slot_that_the_kernel_holds_stays_claimed() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (slots, host, _device) = Slots::bare(2);
    let sim = SimTransport::builder(1).hung(1.0).build();
    let mut engine = tables.engine(sim, vec![host]);
    slots.publish(0, &Request::read(file, 0, 64).into_buffer(pool, 0));
    let _ = engine.step();
    slots.publish(1, &Request::read(file, 0, 64).into_buffer(pool, 0));
    assert_eq!(engine.stop(Duration::ZERO), Err(Busy::new(1)));
    drop(engine);
    assert_eq!(slots.load(0, word::STATUS), status::CLAIMED);
    assert_eq!(slots.load(1, word::STATUS), status::ERROR);
}

#[test]
fn the_error_of_a_stuck_loop_says_that_memory_is_leaked() {
    let stuck = StopError::Stuck { operations: 3 }.to_string();
    assert!(stuck.contains('3') && stuck.contains("leaked"), "{stuck}");
}
