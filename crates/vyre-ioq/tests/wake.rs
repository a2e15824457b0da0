//! Wake-ups of a device that sleeps: which end stores what, and that a host wakes nobody who does not sleep.

#![cfg(feature = "std")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::{Memory, SetOnDrop};
use vyre_ioq::abi::header_word::{ARMED, WAKEUPS};
use vyre_ioq::{DeviceQueue, Features, HostQueue, LoopState, Queue, QueueLayout, Request, Ticket};

/// Longest time that a request takes: a wake-up was lost. How many end in a second is up to the machine.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

fn layout(slots: u32) -> QueueLayout {
    QueueLayout::with_slots(slots).with_features(Features::WAKE)
}

fn queue() -> (Memory, HostQueue, DeviceQueue) {
    let memory = Memory::new(layout(2).bytes());
    let host = HostQueue::create(memory.region(), &layout(2)).expect("fit");
    let device = DeviceQueue::attach(memory.region()).expect("a queue");
    (memory, host, device)
}

fn submit(device: &DeviceQueue) -> Ticket {
    device.submit(Request::fence()).expect("a free slot")
}

fn serve(host: &mut HostQueue) -> u32 {
    let mut slots = Vec::new();
    let claimed = host.claim_published(0..u32::MAX, |claim| slots.push(claim.slot));
    for slot in slots {
        host.complete(slot, Ok(0)).expect("owed");
    }
    claimed
}

/// Counts its wake-ups.
#[derive(Default)]
struct Count(AtomicU32);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Rules: ABI-7.20, ABI-7.22.
#[test]
fn a_host_wakes_a_device_that_sleeps_and_no_other() {
    let (memory, mut host, device) = queue();
    let count = Arc::new(Count::default());
    host.wake_device_by(Waker::from(count.clone()));
    let woken = || count.0.load(Ordering::Relaxed);
    // A device that does not know the feature.
    for _ in 0..3 {
        let ticket = submit(&device);
        assert_eq!(serve(&mut host), 1);
        assert!(!host.wake_device());
        let _ = device.take(ticket).expect("served");
    }
    assert_eq!((memory.load(ARMED), memory.load(WAKEUPS)), (0, 0));
    assert!(device.expect_wakeups() && device.expects_wakeups());
    assert_ne!(memory.load(ARMED), 0);
    let ticket = submit(&device);
    let before = device.arm();
    assert_eq!(before, device.wakeups());
    assert_eq!(serve(&mut host), 1);
    assert!(host.wake_device());
    assert_ne!(device.wakeups(), before);
    assert_eq!(woken(), 1);
    let _ = device.take(ticket).expect("served");
    // Awake again: no system call, however much is served.
    for _ in 0..100 {
        let ticket = submit(&device);
        assert_eq!(serve(&mut host), 1);
        assert!(!host.wake_device());
        let _ = device.take(ticket).expect("served");
    }
    assert_eq!((woken(), memory.load(WAKEUPS)), (1, 1));
}

/// Rule: ABI-7.22.
#[test]
fn the_end_of_the_host_wakes_a_device_of_which_it_knows_nothing() {
    for end in [LoopState::Stopped, LoopState::Failed] {
        let (memory, mut host, device) = queue();
        let count = Arc::new(Count::default());
        host.wake_device_by(Waker::from(count.clone()));
        let _before = device.arm();
        host.set_state(LoopState::Draining);
        assert_eq!(memory.load(WAKEUPS), 0);
        match end {
            LoopState::Failed => drop(host),
            state => host.set_state(state),
        }
        assert_eq!(memory.load(WAKEUPS), 1);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }
}

/// Rules: ABI-3.3, ABI-7.20.
#[test]
fn nobody_sleeps_and_nobody_is_woken_where_it_was_not_offered() {
    let plain = QueueLayout::with_slots(1).with_features(Features::DOORBELL);
    let bare = QueueLayout::bare(1).with_features(Features::WAKE);
    for layout in [plain, bare] {
        let memory = Memory::new(layout.bytes());
        let queue = Queue::in_region(memory.region(), layout);
        let (mut host, device) = queue.expect("fit");
        assert!(!device.expect_wakeups() && !device.expects_wakeups());
        assert_eq!((device.arm(), device.wakeups()), (None, None));
        let ticket = submit(&device);
        if !host.geometry().is_bare() {
            memory.store(ARMED, 5);
        }
        assert_eq!(serve(&mut host), 1);
        assert!(!host.wake_device() && !host.take_armed());
        host.set_state(LoopState::Stopped);
        if !host.geometry().is_bare() {
            assert_eq!((memory.load(ARMED), memory.load(WAKEUPS)), (5, 0));
        }
        let _ = device.take(ticket).expect("served");
    }
}

/// The host counts at most one wake-up for each run of outcomes.
///
/// Rules: ABI-7.22, SEC-5, SEC-21.
#[test]
fn a_hostile_device_is_woken_at_most_once_for_each_run_of_outcomes() {
    let (memory, mut host, device) = queue();
    let mut dice = 1_u32;
    for round in 1..=100 {
        let ticket = submit(&device);
        dice = dice.wrapping_mul(0x915f_77f5).wrapping_add(2);
        memory.store(ARMED, dice);
        memory.store(WAKEUPS, dice);
        assert_eq!(serve(&mut host), 1);
        assert!(host.wake_device());
        assert_eq!(memory.load(WAKEUPS), round, "its own count");
        assert!(!host.wake_device());
        let _ = device.take(ticket).expect("served");
    }
}

/// Rule: ABI-7.21.
#[test]
fn no_two_numbers_are_the_same_and_none_is_zero_whatever_the_word_holds() {
    let (memory, _host, _gone) = queue();
    for held in [0, 6, u32::MAX - 2] {
        memory.store(ARMED, held);
        let device = DeviceQueue::attach(memory.region()).expect("a queue");
        let mut stored = std::collections::BTreeSet::new();
        for _ in 0..6 {
            memory.store(ARMED, held);
            let _before = device.arm();
            let number = memory.load(ARMED);
            assert!(
                number != 0 && number != held && stored.insert(number),
                "{stored:?}"
            );
        }
    }
}

/// Threads that sleep in their waits, without a time limit that matters: each is woken for its outcome, although the host
/// wakes one thread alone.
///
/// Rules: ABI-7.20, ABI-7.21, ABI-7.22, ABI-7.23.
#[test]
#[cfg(target_os = "linux")]
fn threads_that_sleep_are_woken_for_their_outcomes() {
    let each = if cfg!(miri) { 5 } else { 300 };
    let (mut host, device) = Queue::anonymous(layout(8)).expect("memory");
    host.set_state(LoopState::Running);
    assert!(device.expect_wakeups());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let lane = || {
            for _ in 0..each {
                let mut ticket = submit(&device);
                let deadline = Instant::now() + WAIT_LIMIT;
                loop {
                    let before = device.arm().expect("offered");
                    match device.take(ticket) {
                        Ok(_) => break,
                        Err(pending) => ticket = pending,
                    }
                    device.sleep_until_woken(before, None);
                    assert!(Instant::now() < deadline, "a wake-up was lost");
                }
            }
        };
        let lanes = [(); 4].map(|()| scope.spawn(lane));
        let server = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if serve(&mut host) > 0 {
                    host.wake_device();
                }
                thread::yield_now();
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

/// A wait of a device that expects wake-ups takes no processor time, and ends with the host.
///
/// Rules: ABI-7.3, ABI-7.21.
#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn a_wait_sleeps_until_the_host_ends() {
    let (mut host, device) = Queue::anonymous(layout(1)).expect("memory");
    assert!(device.expect_wakeups());
    let ticket = submit(&device);
    thread::scope(|scope| {
        let lane = scope.spawn(|| device.wait_for(ticket, WAIT_LIMIT));
        thread::sleep(Duration::from_millis(50));
        host.set_state(LoopState::Stopped);
        let gone = lane.join().expect("no panic");
        assert!(
            matches!(gone, Err(vyre_ioq::WaitError::HostGone(_))),
            "{gone:?}"
        );
    });
}
