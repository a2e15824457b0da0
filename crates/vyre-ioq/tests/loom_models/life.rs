//! Creation and shutdown of a queue.

use loom::thread;
use std::sync::Arc;
use vyre_ioq::{AttachError, DeviceQueue, HostQueue, LoopState, Queue, QueueLayout, Region};

use crate::plain::Plain;
use crate::{Times, claim, explore, write};

/// The host completes the requests that it has seen, and ends by `go`.
fn a_wait_ends_with_the_outcome(name: &str, go: fn(HostQueue, u32)) {
    let (answered, gone) = (Times::default(), Times::default());
    let times = (answered.clone(), gone.clone());
    explore(name, 3, move || {
        let (mut host, device) = Queue::anonymous(QueueLayout::with_slots(1)).expect("memory");
        let ticket = device.submit(write(7)).expect("free");
        let slot = claim(&mut host)[0].slot;
        let host = thread::spawn(move || go(host, slot));
        let outcome = device
            .wait(ticket)
            .expect("never HostGone: there is an outcome");
        assert_eq!(outcome.tag, 7);
        match outcome.result {
            Ok(_) => times.0.once_more(),
            Err(_) => times.1.once_more(),
        }
        host.join().expect("no panic in the host");
    });
    assert!(answered.get() + gone.get() > 0, "no wait ended");
}

/// Rule: ABI-7.1.
#[test]
fn outcomes_before_stopped_are_seen() {
    a_wait_ends_with_the_outcome("complete, stop", |mut host, slot| {
        host.complete(slot, Ok(4)).expect("owed");
        host.set_state(LoopState::Stopped);
    });
}

#[test]
fn a_host_that_is_dropped_after_an_outcome_shows_it_first() {
    a_wait_ends_with_the_outcome("complete, drop", |mut host, slot| {
        host.complete(slot, Ok(4)).expect("owed");
        drop(host);
    });
}

#[test]
fn who_sees_that_the_host_stopped_sees_what_it_did_before() {
    explore("stop", 3, || {
        let (mut host, device) = Queue::anonymous(QueueLayout::with_slots(1)).expect("memory");
        let last = Arc::new(Plain::new());
        let stopper = {
            let last = Arc::clone(&last);
            thread::spawn(move || {
                last.set(7);
                host.set_state(LoopState::Stopped);
            })
        };
        while device.host_state() != Some(LoopState::Stopped) {
            thread::yield_now();
        }
        assert_eq!(last.get(), 7);
        stopper.join().expect("no panic");
    });
}

/// Rule: ABI-2.9.
#[test]
fn who_finds_the_magic_sees_the_queue_behind_it() {
    let early = Times::default();
    let times = early.clone();
    explore("create, attach", 2, move || {
        let layout = QueueLayout::with_slots(1).with_id(9);
        let region = Region::allocate(layout.bytes()).expect("memory");
        let creator = {
            let region = region.clone();
            thread::spawn(move || drop(HostQueue::create(region, &layout).expect("fit")))
        };
        let device = loop {
            match DeviceQueue::attach(region.clone()) {
                Ok(device) => break device,
                Err(AttachError::BadMagic { .. }) => times.once_more(),
                Err(error) => panic!("the magic is there, and {error}"),
            }
            thread::yield_now();
        };
        assert_eq!((device.id(), device.geometry().slots()), (9, 1));
        creator.join().expect("no panic");
    });
    assert!(early.get() > 0, "never came too early");
}
