//! Ownership of a slot and of the bytes of its request.

use std::sync::Arc;

use loom::thread;
use vyre_ioq::{DeviceQueue, Errno, HostQueue, Queue, QueueLayout, Region, Ticket};

use crate::plain::Plain;
use crate::{Times, explore, outcome, reserve, write};

/// Reserves a slot, fills its buffer and publishes.
fn ask(device: &DeviceQueue, buffers: &[Plain], tag: u32) -> Ticket {
    let reservation = reserve(device);
    buffers[reservation.slot() as usize].set(tag);
    device.publish(reservation, &write(tag))
}

/// Checks the bytes that the host moved, and gives back the slot with its buffer.
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
    assert_eq!((host.owed(), host.faults().total()), (0, 0));
}

fn queue(layout: QueueLayout) -> (HostQueue, Arc<DeviceQueue>, Arc<Vec<Plain>>) {
    let (host, device) = Queue::anonymous(layout).expect("memory");
    let buffers = (0..device.geometry().slots()).map(|_| Plain::new());
    (host, Arc::new(device), Arc::new(buffers.collect()))
}

/// One lane has a request in service. The other waits for the slot and then fills its buffer.
///
/// Rule: ABI-4.10.
#[test]
fn a_slot_is_used_by_two_lanes_in_turn() {
    explore("one slot, two lanes", 2, || {
        let (mut host, device, buffers) = queue(QueueLayout::bare(1).with_counts());
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

/// One lane publishes over an old outcome and abandons its request. The other takes the slot back when that
/// request has completed and not before: the old outcome does not mislead it.
///
/// Rule: ABI-4.14.
#[test]
fn a_slot_is_taken_back_when_its_abandoned_request_is_over() {
    let taken_back = Times::default();
    let times = taken_back.clone();
    explore("one slot, abandoned", 2, move || {
        let (mut host, device, buffers) = queue(QueueLayout::bare(1).with_counts());
        let ticket = ask(&device, &buffers, 1);
        serve(&mut host, &buffers, 1);
        let (_, kept) = device.take_and_keep(ticket).expect("served");
        let second = {
            let (device, buffers) = (Arc::clone(&device), Arc::clone(&buffers));
            let times = times.clone();
            thread::spawn(move || {
                buffers[reserve(&device).slot() as usize].set(3);
                times.once_more();
            })
        };
        buffers[0].set(2);
        device.abandon(device.publish(kept, &write(2)));
        serve(&mut host, &buffers, 1);
        second.join().expect("no panic in the lane");
    });
    assert!(taken_back.get() > 0);
}

/// One lane publishes over the outcome that the other took. Both requests are served, and neither lane takes the
/// other's outcome. The host may announce its claims in between.
///
/// Rule: ABI-4.9.
#[test]
fn a_request_over_the_outcome_of_another_lane() {
    let second_went_first = Times::default();
    let times = second_went_first.clone();
    explore("one slot, two requests", 2, move || {
        let (mut host, device, buffers) = queue(QueueLayout::bare(1).with_counts());
        let lane = {
            let (device, buffers) = (Arc::clone(&device), Arc::clone(&buffers));
            thread::spawn(move || {
                let ticket = ask(&device, &buffers, 1);
                finish(&device, &buffers, ticket);
            })
        };
        let server = {
            let (buffers, times) = (Arc::clone(&buffers), times.clone());
            thread::spawn(move || {
                let mut tags = Vec::new();
                while tags.len() < 2 {
                    let mut claims = Vec::new();
                    host.claim_published(0..1, |claim| claims.push(claim));
                    host.announce_claims();
                    for claim in claims {
                        let tag = claim.image.tag;
                        assert_eq!(buffers[0].get(), tag, "the bytes of the request");
                        buffers[0].set(!tag);
                        host.complete(0, Ok(tag + 10)).expect("owed");
                        tags.push(tag);
                    }
                    thread::yield_now();
                }
                if tags == [2, 1] {
                    times.once_more();
                }
                tags.sort_unstable();
                assert_eq!(tags, [1, 2], "each once");
                assert_eq!((host.owed(), host.faults().total()), (0, 0));
            })
        };
        let ticket = ask(&device, &buffers, 2);
        finish(&device, &buffers, ticket);
        lane.join().expect("no panic in the lane");
        server.join().expect("no panic in the host");
    });
    assert!(second_went_first.get() > 0, "always in one order");
}

/// Beside an announced slot, the sweep loads the statuses of a chunk once more.
///
/// Rules: ABI-4.2, ABI-4.15.
#[test]
fn a_request_beside_an_announced_claim() {
    explore("one announced, one new", 3, || {
        let (mut host, device, buffers) = queue(QueueLayout::with_slots(2));
        let _first = ask(&device, &buffers, 1);
        assert_eq!(host.claim_published(0..2, drop), 1);
        assert_eq!(host.announce_claims(), 1);
        let lane = {
            let (device, buffers) = (Arc::clone(&device), Arc::clone(&buffers));
            thread::spawn(move || {
                let _lost = ask(&device, &buffers, 2);
            })
        };
        let mut found = 0;
        while found == 0 {
            found = host.claim_published(0..2, |claim| {
                assert_eq!((claim.slot, claim.image.tag), (1, 2));
                assert_eq!(buffers[1].get(), 2, "the bytes of the request");
            });
            thread::yield_now();
        }
        lane.join().expect("no panic in the lane");
    });
}

/// Two device ends use one queue, against the rules, and publish two requests in one slot. The second comes while
/// the host announces the first: it is lost with the outcome, or served after it. In both cases every claim gets
/// its outcome and no slot stays claimed.
#[test]
fn a_claim_is_announced_while_a_hostile_device_publishes_there() {
    let (swallowed, served) = (Times::default(), Times::default());
    let times = (swallowed.clone(), served.clone());
    explore("a rogue beside the host", 2, move || {
        let layout = QueueLayout::bare(1).with_counts();
        let region = Region::allocate(layout.bytes()).expect("memory");
        let (mut host, device) = Queue::in_region(region.clone(), layout).expect("fit");
        let rogue = DeviceQueue::attach_bare_with_counts(region).expect("a queue");
        let reserved = reserve(&rogue);
        let ticket = device.submit(write(1)).expect("free");
        let rogue = thread::spawn(move || {
            let _lost = rogue.publish(reserved, &write(2));
        });
        let mut claims = host.claim_published(0..1, drop);
        assert_eq!(claims, 1);
        assert!(host.announce_claims() <= 1);
        host.complete(0, Ok(4)).expect("owed");
        rogue.join().expect("no panic in the rogue");
        assert_eq!(host.announce_claims(), 0, "nothing is owed");
        claims += host.claim_published(0..1, drop);
        assert_eq!(host.complete_owed(Errno::EIO), claims - 1);
        match claims {
            1 => times.0.once_more(),
            _ => times.1.once_more(),
        }
        assert!(device.poll(&ticket).is_some(), "no outcome");
        assert_eq!((host.owed(), host.faults().total()), (0, 0));
    });
    assert!(swallowed.get() > 0, "it never came in between");
    assert!(served.get() > 0, "it never came after");
}

/// Two lanes reserve at once, and both get a slot.
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

/// Rule: ABI-7.16.
#[test]
fn a_new_device_end_throws_away_an_outcome_and_uses_the_slot() {
    let reused = Times::default();
    let times = reused.clone();
    explore("a slot with an outcome of another's", 3, move || {
        let layout = QueueLayout::bare(1).with_counts();
        let region = Region::allocate(layout.bytes()).expect("memory");
        let (mut host, device) = Queue::in_region(region.clone(), layout).expect("fit");
        let buffers = Arc::new(vec![Plain::new()]);
        let _lost = device.submit(write(0)).expect("free");
        drop(device);
        let successor = {
            let (buffers, times) = (Arc::clone(&buffers), times.clone());
            thread::spawn(move || {
                let device = DeviceQueue::attach_bare_with_counts(region).expect("a queue");
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
