//! Waits: what ends one, and what it reports.

#![cfg(feature = "std")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::{SetOnDrop, claim, fence, queue, read, serve};
use vyre_ioq::{LoopState, Queue, QueueLayout, Unanswered, WaitError, WaitLimits};

const SHORT: Duration = Duration::from_millis(20);
/// Long enough for another thread to run on a busy machine.
const LONG: Duration = Duration::from_millis(300);

/// Rule: ABI-7.1.
#[test]
fn a_wait_ends_when_the_host_stops_or_fails() {
    for state in [LoopState::Stopped, LoopState::Failed] {
        let (mut host, device) = queue(1);
        let ticket = device.submit(read(0)).expect("free");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| device.wait(ticket));
            host.set_state(state);
            let gone = waiting.join().expect("no panic").expect_err("unanswered");
            assert!(matches!(gone, WaitError::HostGone(_)), "{gone}");
        });
    }
}

#[test]
fn a_wait_goes_on_while_the_host_starts_runs_or_drains() {
    for state in [LoopState::Starting, LoopState::Running, LoopState::Draining] {
        let (mut host, device) = queue(1);
        host.set_state(state);
        let ticket = device.submit(read(0)).expect("free");
        let over = device
            .wait_for(ticket, Duration::ZERO)
            .expect_err("unanswered");
        assert!(
            matches!(over, WaitError::TimedOut { .. }),
            "{state:?}: {over}"
        );
    }
}

/// Rule: ABI-7.11.
#[test]
fn a_wait_that_times_out_says_whether_the_host_lives() {
    for layout in [QueueLayout::with_slots(1), QueueLayout::bare(1)] {
        let (mut host, device) = Queue::anonymous(layout).expect("memory");
        host.beat();
        let ticket = device.submit(read(0)).expect("free");
        let over = device.wait_for(ticket, SHORT).expect_err("unanswered");
        assert!(
            matches!(
                over,
                WaitError::TimedOut {
                    host_moved: false,
                    ..
                }
            ),
            "{over}"
        );

        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    host.beat();
                    thread::yield_now();
                }
            });
            let _done = SetOnDrop(&done);
            let over = device
                .wait_for(over.into_ticket(), LONG)
                .expect_err("unanswered");
            let WaitError::TimedOut {
                ticket,
                limit,
                host_moved,
            } = over
            else {
                panic!("{over}");
            };
            assert_eq!((ticket.slot(), limit), (0, LONG));
            assert_eq!(
                host_moved,
                !device.geometry().is_bare(),
                "a bare queue has no heartbeat"
            );
        });
    }
}

#[test]
fn a_wait_that_timed_out_can_be_taken_up_again() {
    let (mut host, device) = queue(1);
    let ticket = device.submit(read(3)).expect("free");
    let over = device.wait_for(ticket, SHORT).expect_err("unanswered");
    serve(&mut host);
    assert_eq!(device.wait(over.into_ticket()).expect("served").tag, 3);
}

/// Rule: ABI-7.3.
#[test]
fn an_outcome_is_seen_although_the_host_stopped_before_the_wait_began() {
    let (mut host, device) = queue(1);
    let ticket = device.submit(read(0)).expect("free");
    serve(&mut host);
    host.set_state(LoopState::Failed);
    assert!(device.wait_for(ticket, Duration::ZERO).is_ok());
}

#[test]
fn a_heartbeat_timeout_of_zero_is_no_limit() {
    let (_host, device) = common::queue(1);
    let ticket = device.submit_owned(fence(0)).expect("free");
    let limits = WaitLimits::new(Duration::from_millis(1)).with_heartbeat_timeout(Duration::ZERO);
    let none = ticket.wait(limits);
    assert!(matches!(none, Err(Unanswered::TimedOut { .. })), "{none:?}");
}

/// A killed host leaves its state as it was. A wait with a heartbeat timeout ends nevertheless.
///
/// Rule: ABI-7.11.
#[test]
fn a_wait_ends_when_the_heartbeat_stands_still() {
    let (mut host, device) = Queue::anonymous(QueueLayout::with_slots(1)).expect("memory");
    host.set_state(LoopState::Running);
    host.beat();
    let still = Duration::from_millis(5);
    let limits = WaitLimits::new(Duration::from_secs(60)).with_heartbeat_timeout(still);
    let ticket = device.submit(fence(0)).expect("free");
    let gone = device.wait_with(ticket, limits).expect_err("killed");
    let WaitError::HeartbeatTimedOut {
        ticket,
        heartbeat_timeout,
    } = gone
    else {
        panic!("{gone}")
    };
    assert_eq!(heartbeat_timeout, still);
    // The outcome comes first.
    claim(&mut host);
    host.complete(0, Ok(0)).expect("owed");
    assert!(device.wait_with(ticket, limits).is_ok());

    let (_host, device) = Queue::anonymous(QueueLayout::bare(1)).expect("memory");
    let ticket = device.submit(fence(0)).expect("free");
    let limits = WaitLimits::new(2 * still).with_heartbeat_timeout(Duration::from_nanos(1));
    let over = device.wait_with(ticket, limits).expect_err("no heartbeat");
    assert!(
        matches!(
            over,
            WaitError::TimedOut {
                host_moved: false,
                ..
            }
        ),
        "{over}"
    );
}
