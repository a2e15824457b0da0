//! Each release and its acquire, tested by memory that is not atomic: the bytes of a request belong to the host
//! from the publication to the outcome, and to the device otherwise. Miri reports a data race if an ordering is
//! missing. A plain run only shows wrong values, and only on a machine with weak ordering.

#![cfg(feature = "std")]

mod common;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Memory, Plain, SetOnDrop};
use vyre_ioq::{
    BufferHandle, DeviceQueue, FileHandle, HostQueue, LoopState, Queue, QueueLayout, Request,
};

const SLOTS: u32 = 2;
const LANES: u32 = 3;
/// Longest time that a request takes: a slot was lost. How many end in a second is up to the machine.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

fn write(tag: u32) -> Request {
    Request::write(FileHandle::from_raw(1), 0, 4)
        .from_buffer(BufferHandle::from_raw(1), 0)
        .with_tag(tag)
}

/// Each slot has a buffer. A lane fills the buffer of the slot that it reserved, the host checks and changes it,
/// the lane sees the change, and another lane gets the slot.
fn a_buffer_changes_hands_with_its_slot(layout: QueueLayout) {
    let (mut host, device) = Queue::anonymous(layout).expect("memory");
    let laps = if cfg!(miri) { 12 } else { 3_000 };
    let buffers: Vec<Plain> = (0..SLOTS).map(|_| Plain::default()).collect();
    let (done, gone) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let (device, buffers, gone) = (&device, &buffers, &gone);
        let server = scope.spawn(|| {
            let _gone = SetOnDrop(gone);
            while !done.load(Ordering::Relaxed) {
                host.claim_published(0..SLOTS, |claim| {
                    let buffer = &buffers[claim.slot as usize];
                    assert_eq!(buffer.get(), claim.image.tag, "the bytes of the request");
                    buffer.set(!claim.image.tag);
                });
                for slot in 0..SLOTS {
                    let _ = host.complete(slot, Ok(4)); // Refused where nothing was claimed.
                }
                thread::yield_now();
            }
        });
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                scope.spawn(move || one_lane(device, buffers, gone, lane * laps..(lane + 1) * laps))
            })
            .collect();
        let _done = SetOnDrop(&done);
        for lane in lanes {
            lane.join().expect("no panic in a lane");
        }
        done.store(true, Ordering::Relaxed);
        server.join().expect("no panic in the host");
    });
}

fn one_lane(device: &DeviceQueue, buffers: &[Plain], gone: &AtomicBool, tags: Range<u32>) {
    for tag in tags {
        let deadline = Instant::now() + WAIT_LIMIT;
        let check = || {
            assert!(!gone.load(Ordering::Relaxed), "the host panicked");
            assert!(Instant::now() < deadline, "no slot or no outcome");
        };
        let reservation = loop {
            check();
            match device.reserve() {
                Ok(reservation) => break reservation,
                Err(_) => thread::yield_now(),
            }
        };
        let buffer = &buffers[reservation.slot() as usize];
        buffer.set(tag);
        let ticket = device.publish(reservation, &write(tag));
        while device.poll(&ticket).is_none() {
            check();
            thread::yield_now();
        }
        assert_eq!(buffer.get(), !tag, "what the host moved");
        // From here on, the slot and its buffer may belong to another lane.
        let _ = device.take(ticket).expect("polled before");
    }
}

/// Rules: ABI-4.2, ABI-4.3, ABI-4.13.
#[test]
fn a_buffer_changes_hands_with_its_slot_in_a_queue_with_a_header() {
    a_buffer_changes_hands_with_its_slot(QueueLayout::with_slots(SLOTS));
}

/// Rules: ABI-4.2, ABI-4.13.
#[test]
fn a_buffer_changes_hands_with_its_slot_in_a_bare_queue() {
    a_buffer_changes_hands_with_its_slot(QueueLayout::bare(SLOTS));
}

/// Rule: ABI-7.1.
#[test]
fn who_sees_that_the_host_stopped_sees_what_it_did_before() {
    for state in [LoopState::Stopped, LoopState::Failed] {
        let (mut host, device) = Queue::anonymous(QueueLayout::with_slots(1)).expect("memory");
        let last = Plain::default();
        thread::scope(|scope| {
            scope.spawn(|| {
                last.set(7);
                host.set_state(state);
            });
            while device.host_state() != Some(state) {
                thread::yield_now();
            }
            assert_eq!(last.get(), 7);
        });
    }
}

/// Rule: ABI-2.9.
#[test]
fn who_finds_the_magic_sees_the_queue_behind_it() {
    for _ in 0..if cfg!(miri) { 6 } else { 200 } {
        let layout = QueueLayout::with_slots(1).with_id(9);
        let memory = Memory::new(layout.bytes());
        let (creators, devices) = (memory.region(), memory.region());
        let before = Plain::default();
        thread::scope(|scope| {
            let creator = scope.spawn(|| {
                before.set(7);
                HostQueue::create(creators, &layout).expect("fit")
            });
            let device = loop {
                match DeviceQueue::attach(devices.clone()) {
                    Ok(device) => break device,
                    Err(_) => thread::yield_now(),
                }
            };
            assert_eq!((before.get(), device.id()), (7, 9));
            drop(creator.join().expect("no panic"));
        });
    }
}

/// Rule: ABI-7.16.
#[test]
fn a_new_device_end_uses_a_slot_after_what_its_host_did() {
    for _ in 0..if cfg!(miri) { 4 } else { 200 } {
        let layout = QueueLayout::with_slots(1);
        let memory = Memory::new(layout.bytes());
        let mut host = HostQueue::create(memory.region(), &layout).expect("fit");
        let gone = DeviceQueue::attach(memory.region()).expect("a queue");
        let _lost = gone.submit(write(1)).expect("free");
        let device = DeviceQueue::attach(memory.region()).expect("a queue");
        let buffer = Plain::default();
        thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(host.claim_published(0..1, drop), 1);
                buffer.set(7);
                host.complete(0, Ok(4)).expect("owed");
            });
            while device.reserve().is_err() {
                thread::yield_now();
            }
            assert_eq!(buffer.get(), 7, "what the host moved");
        });
    }
}
