//! Shutdown of a host end: which requests it completes, which it leaves, and what its device finds.

#![cfg(feature = "std")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{Memory, WORD, claim, queue, read};
use vyre_ioq::abi::{status, word};
use vyre_ioq::{Errno, HostQueue, LoopState, Queue, QueueLayout, WaitError};

/// The host end does not know the transfers. An outcome would hand back a buffer that the kernel may still
/// write to.
///
/// Rules: ABI-7.12, SEC-10.
#[test]
fn a_dropped_host_fails_the_queue_and_answers_nothing() {
    let (mut host, device) = queue(3);
    host.set_state(LoopState::Running);
    let claimed = device.submit(read(0)).expect("free");
    assert_eq!(claim(&mut host), [0]);
    let published = device.submit(read(1)).expect("free");
    drop(host);
    assert_eq!(device.host_state(), Some(LoopState::Failed));
    for (slot, ticket) in (0..).zip([claimed, published]) {
        let gone = device.wait(ticket).expect_err("nobody answers");
        assert!(matches!(gone, WaitError::HostGone(_)), "{gone}");
        assert_eq!(gone.into_ticket().slot(), slot);
    }
}

/// Rules: ABI-7.12, SEC-10.
#[test]
fn an_owner_that_unwinds_leaves_what_is_in_flight_unanswered() {
    let (mut host, device) = queue(2);
    let ticket = device.submit(read(0)).expect("free");
    let unwound = catch_unwind(AssertUnwindSafe(move || {
        assert_eq!(claim(&mut host), [0]);
        panic!("a transfer is in flight");
    }));
    assert!(unwound.is_err());
    assert_eq!(device.poll(&ticket), None);
    assert_eq!(device.host_state(), Some(LoopState::Failed));
}

/// Rule: ABI-4.12.
#[test]
fn owed_slots_that_are_not_safe_stay_owed_and_unanswered() {
    for layout in [
        QueueLayout::with_slots(4),
        QueueLayout::bare(4).with_counts(),
    ] {
        let memory = Memory::new(layout.bytes());
        let (mut host, device) = Queue::in_region(memory.region(), layout).expect("fit");
        let tickets = [0, 1, 2, 3].map(|tag| device.submit(read(tag)).expect("free"));
        host.claim_published(0..3, drop);
        let mut asked = Vec::new();
        let completed = host.complete_owed_where(Errno::ECANCELED, |slot| {
            asked.push(slot);
            slot != 1
        });
        assert_eq!((completed, asked), (2, vec![0, 1, 2]), "owed slots alone");
        assert_eq!((host.owed(), host.is_owed(1)), (1, true));
        let found = tickets
            .each_ref()
            .map(|ticket| device.poll(ticket).map(|found| found.result));
        let cancelled = Some(Err(Errno::ECANCELED));
        assert_eq!(found, [cancelled, None, cancelled, None]);
        let first = device.geometry().slots_offset() / WORD;
        let words = device.geometry().stride() / WORD;
        let status = |slot: usize| memory.load(first + slot * words + word::STATUS);
        let kept = match device.geometry().is_bare() {
            true => status::CLAIMED,
            false => status::PUBLISHED,
        };
        assert_eq!((status(1), status(3)), (kept, status::PUBLISHED));
        // Its transfer has ended after all.
        host.complete(1, Ok(5)).expect("still owed");
        assert_eq!(device.poll(&tickets[1]).expect("an outcome").bytes(), Ok(5));
    }
}

#[test]
fn a_host_that_stopped_in_order_does_not_fail_when_dropped() {
    for state in [LoopState::Stopped, LoopState::Failed] {
        let (mut host, device) = queue(1);
        host.set_state(state);
        assert_eq!(host.state(), state);
        drop(host);
        assert_eq!(device.host_state(), Some(state));
    }
}

/// Rule: ABI-7.12.
#[test]
fn a_bare_host_that_is_dropped_leaves_claimed_what_it_owed() {
    let layout = QueueLayout::bare(2);
    let memory = Memory::new(layout.bytes());
    let (mut host, device) = Queue::in_region(memory.region(), layout).expect("fit");
    assert_eq!((device.host_state(), device.host_heartbeat()), (None, None));
    let tickets = [0, 1].map(|tag| device.submit(read(tag)).expect("free"));
    host.claim_published(0..1, drop);
    drop(host);
    assert_eq!(
        tickets.each_ref().map(|ticket| device.poll(ticket)),
        [None; 2]
    );
    assert_eq!(memory.load(word::STATUS), status::CLAIMED);
    // A new host leaves requests alone that the old one may still serve, and serves the rest.
    let mut next = HostQueue::attach_bare(memory.region()).expect("two slots");
    assert_eq!(claim(&mut next), [1]);
    assert_eq!(next.faults().total(), 0, "the device did nothing wrong");
}
