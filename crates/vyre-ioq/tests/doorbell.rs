//! The doorbell: which end stores what, and that neither stores anything in a queue that does not offer it.

#![cfg(feature = "std")]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Memory, SetOnDrop};
use vyre_ioq::abi::header_word::{ASLEEP, DOORBELL};
use vyre_ioq::{DeviceQueue, Features, HostQueue, Queue, QueueLayout, Request};

/// Longest time that a request takes: a ring was lost. How many end in a second is up to the machine.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

fn layout(slots: u32) -> QueueLayout {
    QueueLayout::with_slots(slots).with_features(Features::DOORBELL)
}

fn queue() -> (Memory, HostQueue, DeviceQueue) {
    let memory = Memory::new(layout(1).bytes());
    let host = HostQueue::create(memory.region(), &layout(1)).expect("fit");
    let device = DeviceQueue::attach(memory.region()).expect("a queue");
    (memory, host, device)
}

#[test]
fn both_ends_know_what_is_offered() {
    let (_memory, host, device) = queue();
    assert_eq!(host.features(), Features::DOORBELL);
    assert_eq!(device.features(), Features::DOORBELL);
    let (host, device) = Queue::anonymous(layout(1)).expect("memory");
    assert_eq!(host.features(), Features::DOORBELL);
    assert_eq!(device.features(), Features::DOORBELL);
}

/// Rule: ABI-7.8.
#[test]
fn a_device_rings_while_the_host_sleeps_and_at_no_other_time() {
    let (memory, mut host, device) = queue();
    assert!(!device.ring(), "awake from the start");
    let before = host.announce_sleep();
    assert_eq!((before, memory.load(ASLEEP)), (Some(0), 1));
    assert!(device.ring());
    assert_eq!((host.doorbell(), memory.load(DOORBELL)), (Some(1), 1));
    assert!(device.ring(), "each lane rings");
    assert_eq!(host.doorbell(), Some(2));
    host.wake();
    assert_eq!(memory.load(ASLEEP), 0);
    assert!(!device.ring());
    assert_eq!(host.doorbell(), Some(2));
}

#[test]
fn nothing_but_one_in_the_word_asks_for_the_doorbell() {
    let (memory, _host, device) = queue();
    for word in [0, 2, u32::MAX] {
        memory.store(ASLEEP, word);
        assert!(!device.ring(), "{word}");
    }
}

/// The address that the host gives to the kernel is that of the word to which a ring stores.
///
/// Rule: ABI-7.19.
#[test]
fn the_futex_is_the_doorbell_word() {
    let (memory, host, _device) = queue();
    let word = host.doorbell_ptr().expect("offered");
    let base = memory.region().as_ptr().cast::<u32>();
    assert_eq!(word, base.wrapping_add(DOORBELL).cast_const());
    let (host, _device) = Queue::anonymous(QueueLayout::with_slots(1)).expect("memory");
    assert_eq!(host.doorbell_ptr(), None);
}

/// This holds for any value of the word, and past its largest one.
///
/// Rule: ABI-7.10.
#[test]
fn a_device_end_counts_on_from_where_the_last_one_stopped() {
    let (memory, mut host, _gone) = queue();
    for (held, next) in [(6, 7), (u32::MAX, 0)] {
        memory.store(DOORBELL, held);
        let device = DeviceQueue::attach(memory.region()).expect("a queue");
        assert_eq!(host.announce_sleep(), Some(held));
        assert!(device.ring());
        assert_eq!(host.doorbell(), Some(next));
    }
}

/// Rule: ABI-7.10.
#[test]
fn no_two_rings_store_the_same_whatever_the_word_holds() {
    let (memory, mut host, device) = queue();
    let _before = host.announce_sleep();
    let mut stored = BTreeSet::new();
    for _ in 0..8 {
        memory.store(DOORBELL, 3);
        assert!(device.ring());
        assert!(stored.insert(host.doorbell()), "{stored:?}");
    }
}

/// Rules: ABI-3.3, ABI-7.9.
#[test]
fn nobody_sleeps_and_nobody_rings_where_it_was_not_offered() {
    let plain = QueueLayout::with_slots(1);
    let bare = QueueLayout::bare(1).with_features(Features::DOORBELL);
    for layout in [plain, bare] {
        let memory = Memory::new(layout.bytes());
        let queue = Queue::in_region(memory.region(), layout);
        let (mut host, device) = queue.expect("fit");
        assert_eq!(host.features(), Features::empty());
        assert_eq!((host.announce_sleep(), host.doorbell()), (None, None));
        if !host.geometry().is_bare() {
            assert_eq!(memory.load(ASLEEP), 0);
            memory.store(ASLEEP, 1);
            host.wake();
            assert_eq!(memory.load(ASLEEP), 1);
        }
        assert!(!device.ring());
        if !host.geometry().is_bare() {
            assert_eq!(memory.load(DOORBELL), 0);
        }
    }
}

/// A lane that waits for its request need not ring.
///
/// Rule: ABI-7.8.
#[test]
#[cfg(target_os = "linux")]
fn a_wait_rings() {
    let (_memory, mut host, device) = queue();
    let before = host.announce_sleep();
    let ticket = device.submit(Request::fence()).expect("a free slot");
    let pending = device.wait_for(ticket, Duration::ZERO);
    let _ticket = pending.expect_err("nobody serves").into_ticket();
    assert_ne!(host.doorbell(), before);
    host.wake();
    assert!(!device.ring_and_wake());
}

/// The sleep has no time limit: the host sleeps until the doorbell changes.
///
/// Rules: ABI-7.7, ABI-7.8.
#[test]
fn requests_are_served_by_a_host_that_sleeps_whenever_it_can() {
    let each = if cfg!(miri) { 20 } else { 2_000 };
    let (mut host, device) = Queue::anonymous(layout(2)).expect("memory");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let lane = || {
            for _ in 0..each {
                let deadline = Instant::now() + WAIT_LIMIT;
                let ticket = loop {
                    match device.submit(Request::fence()) {
                        Ok(ticket) => break ticket,
                        Err(_) => thread::yield_now(),
                    }
                    assert!(Instant::now() < deadline, "no slot");
                };
                let _ = device.ring();
                let _ = device.wait(ticket).expect("served");
            }
        };
        let lanes = [scope.spawn(lane), scope.spawn(lane)];
        let server = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let before = host.announce_sleep();
                if serve(&mut host) == 0 {
                    while host.doorbell() == before && !done.load(Ordering::Relaxed) {
                        thread::yield_now();
                    }
                }
                host.wake();
                serve(&mut host);
            }
        });
        let _done = SetOnDrop(&done);
        for lane in lanes {
            lane.join().expect("no panic in a lane");
        }
        done.store(true, Ordering::Relaxed);
        server.join().expect("no panic in the host");
    });
}

fn serve(host: &mut HostQueue) -> u32 {
    let mut slots = Vec::new();
    let claimed = host.claim_published(0..u32::MAX, |claim| slots.push(claim.slot));
    for slot in slots {
        host.complete(slot, Ok(0)).expect("owed");
    }
    claimed
}
