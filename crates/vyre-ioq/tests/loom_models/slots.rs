//! A slot, and the bytes of its request, from hand to hand.

use std::sync::Arc;

use loom::thread;
use vyre_ioq::{DeviceQueue, HostQueue, Queue, QueueLayout, Region, Ticket};

use crate::plain::Plain;
use crate::{Times, explore, outcome, reserve, write};

/// Reserves a slot, fills its buffer and publishes.
fn ask(device: &DeviceQueue, buffers: &[Plain], tag: u32) -> Ticket {
    let reservation = reserve(device);
    buffers[reservation.slot() as usize].set(tag);
    device.publish(reservation, &write(tag))
}

/// Finds in the buffer what the host moved, and gives the slot, its buffer with it, back.
fn finish(device: &DeviceQueue, buffers: &[Plain], ticket: Ticket) {
    let outcome = outcome(device, &ticket);
    let moved = buffers[ticket.slot() as usize].get();
    assert_eq!(moved, !outcome.tag, "what the host moved");
    assert_eq!(outcome.bytes(), Ok(outcome.tag + 10), "and how much");
    let _ = device.take(ticket).expect("polled before");
}

/// Serves that many requests.
fn serve(host: &mut HostQueue, buffers: &[Plain], mut requests: u32) {
    while requests > 0 {
        let mut slots = Vec::new();
        requests -= host.claim_published(0..u32::MAX, |claim| {
            let buffer = &buffers[claim.slot as usize];
            assert_eq!(buffer.get(), claim.image.tag, "the bytes of the request");
            buffer.set(!claim.image.tag);
            slots.push((claim.slot, claim.image.tag));
        });
        for (slot, tag) in slots {
            host.complete(slot, Ok(tag + 10)).expect("owed");
        }
        if requests > 0 {
            thread::yield_now();
        }
    }
    assert_eq!((host.in_flight(), host.faults().total()), (0, 0));
}

fn queue(layout: QueueLayout) -> (HostQueue, Arc<DeviceQueue>, Arc<Vec<Plain>>) {
    let (host, device) = Queue::anonymous(layout).expect("memory");
    let buffers = (0..device.geometry().slots()).map(|_| Plain::new());
    (host, Arc::new(device), Arc::new(buffers.collect()))
}

/// One has asked; while it is served, the other waits for the slot, and then fills its buffer.
#[test]
fn a_slot_is_used_by_two_lanes_in_turn() {
    explore("one slot, two lanes", 2, || {
        let (mut host, device, buffers) = queue(QueueLayout::bare(1));
        let ticket = ask(&device, &buffers, 1);
        let server = {
            let buffers = Arc::clone(&buffers);
            thread::spawn(move || serve(&mut host, &buffers, 1))
        };
        let second = {
            let (device, buffers) = (Arc::clone(&device), Arc::clone(&buffers));
            thread::spawn(move || buffers[reserve(&device).slot() as usize].set(2))
        };
        finish(&device, &buffers, ticket);
        second.join().expect("no panic in the lane");
        server.join().expect("no panic in the host");
    });
}

/// Two want a slot at once, and both get one.
#[test]
fn two_lanes_use_two_slots_at_once() {
    explore("two slots, two lanes", 2, || {
        let (mut host, device, buffers) = queue(QueueLayout::with_slots(2));
        let lanes = [1, 2].map(|tag| {
            let (device, buffers) = (Arc::clone(&device), Arc::clone(&buffers));
            thread::spawn(move || ask(&device, &buffers, tag))
        });
        serve(&mut host, &buffers, 2);
        for lane in lanes {
            finish(&device, &buffers, lane.join().expect("no panic in a lane"));
        }
    });
}

#[test]
fn a_new_device_end_throws_away_an_outcome_and_uses_the_slot() {
    let reused = Times::default();
    let times = reused.clone();
    explore("a slot with an outcome of another's", 3, move || {
        let layout = QueueLayout::bare(1);
        let region = Region::allocate(layout.bytes()).expect("memory");
        let (mut host, device) = Queue::in_region(region.clone(), layout).expect("fit");
        let buffers = Arc::new(vec![Plain::new()]);
        let _lost = device.submit(write(0)).expect("free");
        drop(device);
        let successor = {
            let (buffers, times) = (Arc::clone(&buffers), times.clone());
            thread::spawn(move || {
                let device = DeviceQueue::attach_bare(region).expect("a queue");
                if let Ok(ticket) = device.reserve() {
                    times.once_more();
                    buffers[ticket.slot() as usize].set(9);
                }
            })
        };
        serve(&mut host, &buffers, 1);
        successor.join().expect("no panic");
    });
    assert!(reused.get() > 0, "never found the outcome");
}
