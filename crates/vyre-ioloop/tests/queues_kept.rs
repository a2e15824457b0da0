//! Removals of queues whose requests do not end by themselves.

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use common::live::{plain, watched};
use common::manual::ManualTransport;
use common::*;
use vyre_ioloop::{QueueError, Rights, TableError};
use vyre_ioq::{Errno, LoopState, Request};
use vyre_uring::SimTransport;

/// An operation that the kernel does not give back has no outcome, and keeps its file and its buffer. The queue's memory is given back
/// all the same, and another queue takes its place.
///
/// Rules: ABI-4.12, ABI-7.12.
#[test]
fn operations_that_the_kernel_keeps_are_left_without_an_outcome() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (transport, control) = ManualTransport::new(16);
    control.state().cancels = false;
    let (stays, other) = plain();
    let mut engine = tables.engine(transport, vec![stays]);
    let (host, device, freed) = watched(layout(16));
    let queue = engine.add_queue(host).unwrap();
    let read = |n: u64| Request::read(file, 0, 64).into_buffer(pool, n * 64);
    let kept = [1, 2].map(|n| device.submit(read(n)).unwrap());
    let write = Request::write(file, 0, 64).from_buffer(pool, 0);
    let kept_write = device.submit(write).unwrap();
    let waits = device.submit(Request::fence()).unwrap();
    let _ = engine.step();
    // Deferred, admitted and behind the write: cancelled at once.
    let sync = device.submit(Request::sync(file)).unwrap();
    let theirs = other.submit(read(0)).unwrap();
    let _ = engine.step();
    let removal = engine.remove_queue(queue).unwrap();
    assert!(engine.take_removed(removal).is_none());
    let unclaimed = device.submit(read(3)).unwrap();
    engine.cancel_removed(removal);
    let _ = engine.step();
    assert!(engine.take_removed(removal).is_none());
    assert_eq!(engine.requests_of(queue), Some(4));
    let revoked = engine.revoke_buffer(pool).unwrap();
    assert_eq!(engine.abandon_removed(removal), Some(3));
    assert!(engine.abandon_removed(removal).is_none());
    assert_eq!(engine.requests_of(queue), None);
    assert_eq!(device.host_state(), Some(LoopState::Failed));
    for ticket in kept.iter().chain([&kept_write, &waits]) {
        assert!(
            device.poll(ticket).is_none(),
            "the kernel may write to the buffer"
        );
    }
    for ticket in [&sync, &unclaimed] {
        assert_eq!(device.poll(ticket).unwrap().result, Err(Errno::ECANCELED));
    }
    drop(device);
    assert!(
        freed.load(Ordering::Acquire),
        "nothing uses the queue's memory"
    );

    // Another queue has the place, and the requests of the same slots.
    let (host, device) = plain();
    let next = engine.add_queue(host).unwrap();
    assert!(next > queue);
    assert!(!engine.is_revoked(revoked));
    assert_eq!(engine.requests_on(revoked), 4);
    let fresh = engine
        .insert_buffer(memory(4096), .., Rights::all())
        .unwrap();
    let read = Request::read(file, 0, 64).into_buffer(fresh, 0);
    let fresh = [0; 3].map(|_| device.submit(read).unwrap());
    let _ = engine.step();
    // The kernel returns what it had kept.
    control
        .state()
        .complete(|flight| flight.queue == 1 && flight.user as u32 <= 2);
    let _ = engine.step();
    for ticket in &fresh {
        assert_eq!(device.poll(ticket).unwrap().result, Ok(64));
    }
    assert_eq!(other.poll(&theirs), None);
    control.state().complete(|_| true);
    let _ = engine.step();
    assert_eq!(other.poll(&theirs).unwrap().result, Ok(64));
    assert!(engine.is_revoked(revoked), "the buffer is free");
    assert_eq!(engine.counters().stray, 0);
    assert_eq!(engine.requests_of(next), Some(0));
    // Each of the two has its whole share again: 8 of 16 reserved, the rest to borrow.
    let many: Vec<_> = (0..12).map(|_| device.submit(read).unwrap()).collect();
    let _ = engine.step();
    assert_eq!(control.waiting(), 12);
    control.state().complete(|_| true);
    let _ = engine.step();
    assert!(many.iter().all(|ticket| device.poll(ticket).is_some()));
    engine.stop(LIMIT).unwrap();
}

/// Half of the ring is reserved, in equal parts for the queues that there are now, and any of them may borrow the rest.
///
/// Rule: SEC-12.
#[test]
fn the_ring_is_divided_among_the_queues_that_there_are() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (transport, control) = ManualTransport::new(16);
    let mut engine = tables.engine(transport, Vec::new());
    let read = Request::read(file, 0, 64).into_buffer(pool, 0);
    let ((first_host, first), (second_host, second)) = (plain(), plain());
    let mut second_host = Some(second_host);
    let _ = engine.add_queue(first_host).unwrap();
    for round in 0..3 {
        let mut other = None;
        if round == 1 {
            other = Some(engine.add_queue(second_host.take().unwrap()).unwrap());
        }
        let tickets: Vec<_> = (0..16).map(|_| first.submit(read).unwrap()).collect();
        let _ = engine.step();
        assert_eq!(control.waiting(), if other.is_some() { 12 } else { 16 });
        if let Some(other) = other {
            let theirs: Vec<_> = (0..4).map(|_| second.submit(read).unwrap()).collect();
            let _ = engine.step();
            assert_eq!(control.waiting(), 16, "its reserve is free");
            while engine.outstanding() > 0 {
                control.state().complete(|_| true);
                let _ = engine.step();
            }
            assert!(theirs.into_iter().all(|ticket| second.take(ticket).is_ok()));
            let removal = engine.remove_queue(other).unwrap();
            assert!(engine.take_removed(removal).is_some());
        }
        control.state().complete(|_| true);
        let _ = engine.step();
        assert!(tickets.into_iter().all(|ticket| first.take(ticket).is_ok()));
    }
}

/// A removal whose operations the kernel keeps is told so after its time limits.
///
/// Rule: SEC-14.
#[test]
fn a_removal_is_bounded() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let sim = SimTransport::builder(1).hung(1.0).build();
    let options = loop_options().abort_timeout(Duration::from_millis(20));
    let builder = tables.builder().options(options);
    let io = builder.spawn_with(move |_| sim).unwrap();
    let (host, device, freed) = watched(layout(16));
    let queue = io.add_queue(host).unwrap();
    let read = Request::read(file, 0, 4).into_buffer(pool, 0);
    let ticket = device.submit(read).unwrap();
    eventually("the claim", || {
        io.queue_counters(queue).unwrap().claimed == 1
    });
    let kept = io.remove_queue_within(queue, Duration::from_millis(5));
    let requests = 1;
    assert_eq!(kept.unwrap_err(), QueueError::InFlight { queue, requests });
    assert_eq!(device.host_state(), Some(LoopState::Failed));
    assert_eq!(device.poll(&ticket), None);
    drop(device);
    assert!(freed.load(Ordering::Acquire));
    let stuck = io.revoke_buffer_within(pool, Duration::ZERO).unwrap_err();
    assert!(
        matches!(stuck, TableError::InFlight { requests: 1, .. }),
        "{stuck}"
    );
    assert!(io.abort().is_err(), "the kernel holds it still");
}

/// SYNCs that are deferred when their queue's time is over, and those that share a flush.
#[test]
fn syncs_of_a_removed_queue_end() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (transport, control) = ManualTransport::new(16);
    let mut engine = tables.engine(transport, Vec::new());
    let (host, device) = plain();
    let queue = engine.add_queue(host).unwrap();
    let write = Request::write(file, 0, 64).from_buffer(pool, 0);
    let mut tickets = vec![device.submit(write).unwrap()];
    for _ in 0..3 {
        tickets.push(device.submit(Request::sync(file)).unwrap());
    }
    tickets.push(
        device
            .submit(Request::fence().with_deadline(1 << 30))
            .unwrap(),
    );
    let _ = engine.step();
    let removal = engine.remove_queue(queue).unwrap();
    engine.cancel_removed(removal);
    for _ in 0..4 {
        let _ = engine.step();
    }
    let removed = engine.take_removed(removal).expect("all of it ended");
    assert_eq!(removed.counters.claimed, 5);
    for (number, ticket) in tickets.iter().enumerate() {
        let expected = match number {
            4 => Ok(0),
            _ => Err(Errno::ECANCELED),
        };
        assert_eq!(device.poll(ticket).unwrap().result, expected, "{number}");
    }
    assert_eq!(control.waiting(), 0);
    engine.stop(LIMIT).unwrap();
}
