//! No thread of a device sleeps while its outcome is there, or after the host has ended.

use std::sync::Arc;

use loom::sync::{Condvar, Mutex};
use loom::thread;
use vyre_ioq::{DeviceQueue, Features, HostQueue, LoopState, Queue, QueueLayout, Reservation};

use crate::{Times, claim, explore, write};

fn queue(slots: u32) -> (HostQueue, DeviceQueue) {
    let layout = QueueLayout::with_slots(slots).with_features(Features::WAKE);
    Queue::anonymous(layout).expect("memory")
}

/// Returns a queue whose host knows that threads of the device sleep, and has woken the device for all that was announced.
fn known_queue(slots: u32) -> (HostQueue, DeviceQueue) {
    let (mut host, device) = queue(slots);
    assert!(device.expect_wakeups());
    let ticket = device.publish(device.reserve().expect("free"), &write(0));
    for claimed in claim(&mut host) {
        host.complete(claimed.slot, Ok(4)).expect("owed");
    }
    assert!(host.take_armed());
    let _ = device.take(ticket).expect("served");
    (host, device)
}

/// Publishes a request and sleeps until its outcome is there, or until the host has ended. If a wake-up is lost, it sleeps
/// for ever and loom reports the execution.
fn publish_and_sleep(device: &DeviceQueue, reservation: Reservation, sleeps: &Times) -> bool {
    let request = write(reservation.slot());
    let mut ticket = device.publish(reservation, &request);
    loop {
        let before = device.arm();
        ticket = match device.take(ticket) {
            Ok(_) => return true,
            Err(ticket) => ticket,
        };
        if device.host_state().is_some_and(LoopState::is_gone) {
            return device.poll(&ticket).is_some();
        }
        sleeps.once_more();
        while device.wakeups() == before {
            thread::yield_now();
        }
    }
}

/// Serves requests one by one, and wakes the device after each if it is armed.
fn serve(host: &mut HostQueue, mut requests: usize, wakes: &Times) {
    while requests > 0 {
        let found = claim(host);
        for claimed in &found {
            host.complete(claimed.slot, Ok(4)).expect("owed");
            if host.take_armed() {
                wakes.once_more();
            }
        }
        requests -= found.len();
        if found.is_empty() {
            thread::yield_now();
        }
    }
}

/// Rules: ABI-7.20, ABI-7.21, ABI-7.22.
#[test]
fn a_device_does_not_sleep_on_an_outcome() {
    let (sleeps, wakes) = (Times::default(), Times::default());
    let (slept, woke) = (sleeps.clone(), wakes.clone());
    explore("one lane sleeps", 3, move || {
        let (mut host, device) = known_queue(1);
        let reservation = device.reserve().expect("free");
        let slept = slept.clone();
        let lane = thread::spawn(move || publish_and_sleep(&device, reservation, &slept));
        serve(&mut host, 1, &woke);
        assert!(lane.join().expect("no panic in the lane"));
    });
    assert!(sleeps.get() > 0, "never slept");
    assert!(wakes.get() > 0, "never woken");
}

/// The claim of a request shows the host that threads of the device sleep, although no fence came before.
///
/// Rules: ABI-7.20, ABI-7.22.
#[test]
fn a_host_learns_of_a_device_that_sleeps() {
    let sleeps = Times::default();
    let (slept, wakes) = (sleeps.clone(), Times::default());
    explore("the first sleep", 3, move || {
        let (mut host, device) = queue(1);
        let reservation = device.reserve().expect("free");
        let slept = slept.clone();
        let lane = thread::spawn(move || {
            assert!(device.expect_wakeups());
            publish_and_sleep(&device, reservation, &slept)
        });
        serve(&mut host, 1, &wakes);
        assert!(lane.join().expect("no panic in the lane"));
    });
    assert!(sleeps.get() > 0, "never slept");
}

/// A wait on WAKEUPS, as the kernel's futex has it: no wake-up comes between the comparison and the start of the wait.
#[derive(Default)]
struct Futex {
    lock: Mutex<()>,
    woken: Condvar,
}

impl Futex {
    fn sleep_while(&self, is_unchanged: impl Fn() -> bool) {
        let mut held = self.lock.lock().expect("no panic");
        while is_unchanged() {
            held = self.woken.wait(held).expect("no panic");
        }
    }

    fn wake(&self) {
        let _held = self.lock.lock().expect("no panic");
        self.woken.notify_all();
    }
}

/// The number of one thread replaces that of another. The wake-up for it answers both. If a wake-up is lost, all threads
/// block, and loom reports that.
///
/// Rules: ABI-7.21, ABI-7.22, ABI-7.23.
#[test]
fn neither_of_two_threads_sleeps_on_its_outcome() {
    let sleeps = Times::default();
    let slept = sleeps.clone();
    explore("two lanes sleep", 2, move || {
        let (mut host, device) = known_queue(2);
        let (device, futex) = (Arc::new(device), Arc::new(Futex::default()));
        let publish = |_| device.publish(device.reserve().expect("free"), &write(1));
        let tickets: Vec<_> = (0..2).map(publish).collect();
        let found = claim(&mut host);
        let lane = |mut ticket| {
            let (device, futex, slept) = (Arc::clone(&device), Arc::clone(&futex), slept.clone());
            thread::spawn(move || {
                loop {
                    let before = device.arm();
                    ticket = match device.take(ticket) {
                        Ok(_) => return,
                        Err(ticket) => ticket,
                    };
                    slept.once_more();
                    futex.sleep_while(|| device.wakeups() == before);
                }
            })
        };
        let lanes: Vec<_> = tickets.into_iter().map(lane).collect();
        for claimed in found {
            host.complete(claimed.slot, Ok(4)).expect("owed");
            if host.take_armed() {
                futex.wake();
            }
        }
        for lane in lanes {
            lane.join().expect("no panic in the lane");
        }
    });
    assert!(sleeps.get() > 0, "never slept");
}

/// It need not arm again to find it.
///
/// Rules: ABI-7.21, ABI-7.22.
#[test]
fn a_device_that_was_woken_sees_the_outcome() {
    explore("one wake-up", 3, move || {
        let (mut host, device) = queue(1);
        assert!(device.expect_wakeups());
        let ticket = device.publish(device.reserve().expect("free"), &write(1));
        let found = claim(&mut host);
        let before = device.arm();
        let lane = thread::spawn(move || {
            if device.wakeups() != before {
                assert!(device.poll(&ticket).is_some());
            }
        });
        for claimed in found {
            host.complete(claimed.slot, Ok(4)).expect("owed");
            assert!(host.take_armed());
        }
        lane.join().expect("no panic in the lane");
    });
}

/// The end of the host ends a sleep, although the host has claimed nothing that showed it the device.
///
/// Rules: ABI-7.21, ABI-7.22.
#[test]
fn a_device_does_not_sleep_on_a_host_that_has_ended() {
    let sleeps = Times::default();
    let slept = sleeps.clone();
    explore("the host ends", 3, move || {
        let (mut host, device) = queue(1);
        let reservation = device.reserve().expect("free");
        let slept = slept.clone();
        let lane = thread::spawn(move || publish_and_sleep(&device, reservation, &slept));
        host.set_state(LoopState::Stopped);
        assert!(!lane.join().expect("no panic in the lane"));
    });
    assert!(sleeps.get() > 0, "never slept");
}
