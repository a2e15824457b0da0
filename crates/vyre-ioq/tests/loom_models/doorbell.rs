//! No host sleeps while a request is published.

use std::sync::Arc;

use loom::sync::{Condvar, Mutex};
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

/// A wait on the doorbell, as the kernel's futex has it: no wake-up comes between the comparison and the start of the
/// wait. An io_uring keeps the wait across sleeps, until it ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    None,
    Queued,
    Ended,
}

struct Futex {
    wait: Mutex<Wait>,
    ended: Condvar,
}

impl Futex {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            wait: Mutex::new(Wait::None),
            ended: Condvar::new(),
        })
    }

    /// Starts a wait unless one has not been reaped yet.
    fn arm(&self, is_unchanged: impl FnOnce() -> bool) {
        let mut wait = self.wait.lock().expect("no panic");
        if *wait == Wait::None {
            *wait = if is_unchanged() {
                Wait::Queued
            } else {
                Wait::Ended
            };
        }
    }

    /// Sleeps until the wait has ended, and reaps it.
    fn sleep(&self) {
        let mut wait = self.wait.lock().expect("no panic");
        while *wait == Wait::Queued {
            wait = self.ended.wait(wait).expect("no panic");
        }
        *wait = Wait::None;
    }

    fn wake(&self) {
        let mut wait = self.wait.lock().expect("no panic");
        if *wait == Wait::Queued {
            *wait = Wait::Ended;
            self.ended.notify_one();
        }
    }
}

/// Serves as [`serve`] does, but sleeps on a futex. Something else than the doorbell ends the first `early` sleeps, so
/// that the wait stays queued while the host is awake. If a wake-up is lost, all threads block, and loom reports that.
fn serve_on_futex(
    host: &mut HostQueue,
    mut requests: usize,
    futex: &Futex,
    mut early: u32,
    sleeps: &Times,
) {
    while requests > 0 {
        let before = host.announce_sleep();
        let found = claim(host).len();
        if found == 0 {
            sleeps.once_more();
            futex.arm(|| host.doorbell() == before);
            if early == 0 {
                futex.sleep();
            }
            early = early.saturating_sub(1);
        }
        host.wake();
        requests -= found + claim(host).len();
    }
}

fn publish_and_wake(device: &DeviceQueue, reserved: Vec<Reservation>, futex: &Futex) {
    for reservation in reserved {
        let request = write(reservation.slot());
        let _lost = device.publish(reservation, &request);
        if device.ring() {
            futex.wake();
        }
    }
}

/// Rules: ABI-7.7, ABI-7.8, ABI-7.19.
#[test]
fn no_wake_up_is_lost_on_a_futex() {
    let sleeps = Times::default();
    for early in [0, 1] {
        let times = sleeps.clone();
        explore("one lane wakes the host", 3, move || {
            let (mut host, device) = queue(2);
            let reserved = (0..2).map(|_| device.reserve().expect("free")).collect();
            let futex = Futex::new();
            let waker = Arc::clone(&futex);
            let lane = thread::spawn(move || publish_and_wake(&device, reserved, &waker));
            serve_on_futex(&mut host, 2, &futex, early, &times);
            lane.join().expect("no panic in the lane");
        });
    }
    assert!(sleeps.get() > 0, "never slept");
}

/// The wait that the host queued for one sleep ends a later one, whose doorbell has another value.
///
/// Rules: ABI-7.8, ABI-7.10, ABI-7.19.
#[test]
fn no_wake_up_of_two_lanes_is_lost_on_a_futex() {
    let sleeps = Times::default();
    let times = sleeps.clone();
    explore("two lanes wake the host", 2, move || {
        let (mut host, device) = queue(2);
        let mut reserved: Vec<_> = (0..2).map(|_| device.reserve().expect("free")).collect();
        let (device, futex) = (Arc::new(device), Futex::new());
        let lanes: Vec<_> = std::iter::from_fn(|| reserved.pop())
            .map(|reservation| {
                let (device, futex) = (Arc::clone(&device), Arc::clone(&futex));
                thread::spawn(move || publish_and_wake(&device, vec![reservation], &futex))
            })
            .collect();
        serve_on_futex(&mut host, 2, &futex, 1, &times);
        for lane in lanes {
            lane.join().expect("no panic");
        }
    });
    assert!(sleeps.get() > 0, "never slept");
}

/// A thread that waits on the doorbell for a host that cannot, and signals it. What arms it, and the signal, are kept until
/// they are seen.
struct Relay {
    futex: Arc<Futex>,
    /// The value that the doorbell is expected to have, while the relay is armed.
    armed: Mutex<Option<u32>>,
    arming: Condvar,
    closed: Mutex<bool>,
    signalled: Mutex<bool>,
    signal: Condvar,
}

impl Relay {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            futex: Futex::new(),
            armed: Mutex::new(None),
            arming: Condvar::new(),
            closed: Mutex::new(false),
            signalled: Mutex::new(false),
            signal: Condvar::new(),
        })
    }

    fn is_closed(&self) -> bool {
        *self.closed.lock().expect("no panic")
    }

    fn run(&self, device: &DeviceQueue) {
        loop {
            let mut armed = self.armed.lock().expect("no panic");
            while armed.is_none() && !self.is_closed() {
                armed = self.arming.wait(armed).expect("no panic");
            }
            let Some(expected) = *armed else { return };
            drop(armed);
            // The end is a word of the same wait.
            self.futex
                .arm(|| device.doorbell() == expected && !self.is_closed());
            self.futex.sleep();
            // Before the signal: the host that it wakes arms the relay anew.
            *self.armed.lock().expect("no panic") = None;
            *self.signalled.lock().expect("no panic") = true;
            self.signal.notify_one();
        }
    }

    fn arm(&self, expected: u32) {
        let mut armed = self.armed.lock().expect("no panic");
        if armed.is_none() {
            *armed = Some(expected);
            self.arming.notify_one();
        }
    }

    fn sleep(&self) {
        let mut signalled = self.signalled.lock().expect("no panic");
        while !*signalled {
            signalled = self.signal.wait(signalled).expect("no panic");
        }
        *signalled = false;
    }

    fn close(&self) {
        // As the kernel has one state, the relay sees the end or hears of it.
        let armed = self.armed.lock().expect("no panic");
        *self.closed.lock().expect("no panic") = true;
        self.arming.notify_one();
        drop(armed);
        self.futex.wake();
    }
}

/// The relay stays armed across sleeps that something else ends, with the value that an earlier sleep expected.
///
/// Rules: ABI-7.7, ABI-7.8, ABI-7.19.
#[test]
fn no_wake_up_is_lost_on_a_relay() {
    let sleeps = Times::default();
    for early in [0, 1] {
        let times = sleeps.clone();
        explore("a relay wakes the host", 2, move || {
            let (mut host, device) = queue(2);
            let reserved = (0..2).map(|_| device.reserve().expect("free")).collect();
            let (device, relay) = (Arc::new(device), Relay::new());
            let relaying = {
                let (device, relay) = (Arc::clone(&device), Arc::clone(&relay));
                thread::spawn(move || relay.run(&device))
            };
            let futex = Arc::clone(&relay.futex);
            let lane = thread::spawn(move || publish_and_wake(&device, reserved, &futex));
            let (mut requests, mut early) = (2, early);
            while requests > 0 {
                let before = host.announce_sleep().expect("a doorbell");
                let found = claim(&mut host).len();
                if found == 0 {
                    times.once_more();
                    relay.arm(before);
                    if early == 0 {
                        relay.sleep();
                    }
                    early = u32::saturating_sub(early, 1);
                }
                host.wake();
                requests -= found + claim(&mut host).len();
            }
            relay.close();
            lane.join().expect("no panic in the lane");
            relaying.join().expect("no panic in the relay");
        });
    }
    assert!(sleeps.get() > 0, "never slept");
}
