//! No host sleeps while a request is published.

use std::sync::Arc;

use loom::thread;
use vyre_ioq::{DeviceQueue, Features, HostQueue, Queue, QueueLayout, Reservation};

use crate::{Times, claim, explore, write};

fn queue(slots: u32) -> (HostQueue, DeviceQueue) {
    let layout = QueueLayout::with_slots(slots).with_features(Features::DOORBELL);
    Queue::anonymous(layout).expect("memory")
}

/// Serves as a host that sleeps whenever it finds no request, until it has claimed that many. If a ring is lost, it
/// sleeps for ever and loom reports the execution.
fn serve(host: &mut HostQueue, mut requests: usize, sleeps: &Times) {
    while requests > 0 {
        let before = host.announce_sleep();
        let found = claim(host).len();
        if found == 0 {
            sleeps.once_more();
            while host.doorbell() == before {
                thread::yield_now();
            }
        }
        host.wake();
        requests -= found + claim(host).len();
    }
}

fn publish_and_ring(device: &DeviceQueue, reserved: Vec<Reservation>) {
    for reservation in reserved {
        let request = write(reservation.slot());
        let _lost = device.publish(reservation, &request);
        let _ = device.ring();
    }
}

/// Rules: ABI-7.7, ABI-7.8.
#[test]
fn a_host_does_not_sleep_on_a_request() {
    let sleeps = Times::default();
    let times = sleeps.clone();
    explore("one lane rings", 3, move || {
        let (mut host, device) = queue(1);
        let reserved = vec![device.reserve().expect("free")];
        let lane = thread::spawn(move || publish_and_ring(&device, reserved));
        serve(&mut host, 1, &times);
        lane.join().expect("no panic in the lane");
    });
    assert!(sleeps.get() > 0, "never slept");
}

/// The slower of two lanes rings for a sleep that has ended, while the faster lane rings for the next one.
///
/// Rule: ABI-7.10.
#[test]
fn a_late_ring_does_not_undo_another() {
    let sleeps = Times::default();
    let times = sleeps.clone();
    explore("two lanes ring", 2, move || {
        let (mut host, device) = queue(3);
        let mut reserved: Vec<_> = (0..3).map(|_| device.reserve().expect("free")).collect();
        let device = Arc::new(device);
        let slow = {
            let (device, reserved) = (Arc::clone(&device), vec![reserved.remove(0)]);
            thread::spawn(move || publish_and_ring(&device, reserved))
        };
        let fast = thread::spawn(move || publish_and_ring(&device, reserved));
        serve(&mut host, 3, &times);
        slow.join().expect("no panic");
        fast.join().expect("no panic");
    });
    assert!(sleeps.get() > 0, "never slept");
}
