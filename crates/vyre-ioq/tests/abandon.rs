//! Abandoned requests: no slot is lost, and none is reused before its request has completed.

#![cfg(feature = "std")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{claim, fence};
use vyre_ioq::{
    DeviceQueue, Errno, LoopState, OwnedTicket, Queue, QueueFull, QueueLayout, Ticket, Unanswered,
    WaitLimits,
};

fn layouts() -> [QueueLayout; 3] {
    [
        QueueLayout::with_slots(4),
        QueueLayout::bare(4),
        QueueLayout::with_slots(200),
    ]
}

fn fill(device: &DeviceQueue) -> Vec<Ticket> {
    let slots = device.geometry().slots();
    (0..slots)
        .map(|tag| device.submit(fence(tag)).expect("free"))
        .collect()
}

/// Rule: ABI-4.14.
#[test]
fn an_abandoned_slot_is_free_once_its_outcome_is_there() {
    for layout in layouts() {
        let (mut host, device) = Queue::anonymous(layout).expect("memory");
        let slots = device.geometry().slots();
        for ticket in fill(&device) {
            device.abandon(ticket);
        }
        let full = Some(QueueFull { slots });
        assert_eq!(device.reserve().err(), full, "all are PUBLISHED");
        assert_eq!(claim(&mut host).len(), slots as usize);
        host.announce_claims();
        assert_eq!(device.reserve().err(), full, "all are CLAIMED");
        for (slot, answer) in [(slots - 1, Ok(0)), (1, Err(Errno::EIO))] {
            host.complete(slot, answer).expect("owed");
            let reservation = device.reserve().expect("the one that is over");
            assert_eq!(reservation.slot(), slot);
            assert_eq!(device.reserve().err(), full, "it is given once");
            let ticket = device.publish(reservation, &fence(1000 + slot));
            assert_eq!(device.poll(&ticket), None, "the outcome before it");
            assert_eq!(claim(&mut host), [slot]);
            host.complete(slot, Ok(0)).expect("owed");
            let outcome = device.take(ticket).expect("an outcome");
            assert_eq!(outcome.tag, 1000 + slot);
            device.unreserve(device.reserve().expect("taken"));
            let _held = device.reserve().expect("given back");
        }
        assert_eq!(host.complete_owed(Errno::EIO), slots - 2);
        for _ in 0..slots - 2 {
            device.submit(fence(0)).map(drop).expect("over");
        }
        assert_eq!(device.reserve().err(), full);
    }
}

/// A cancelled future drops its ticket.
///
/// Rule: ABI-4.14.
#[test]
fn owned_tickets_that_are_dropped_lose_no_slot() {
    for layout in layouts() {
        let (mut host, device) = Queue::anonymous(layout).expect("memory");
        let device = Arc::new(device);
        let slots = device.geometry().slots();
        for lap in 0..3 {
            let mut tickets: Vec<_> = fill(&device)
                .into_iter()
                .map(|ticket| OwnedTicket::new(Arc::clone(&device), ticket))
                .collect();
            assert!(device.submit_owned(fence(0)).is_err());
            // One ticket is dropped after its outcome, the others before.
            assert_eq!(claim(&mut host).len(), slots as usize);
            let first = tickets.remove(0);
            assert_eq!(first.poll(), None);
            let first = first.take().expect_err("no outcome yet");
            host.complete(first.slot(), Ok(0)).expect("owed");
            assert!(first.poll().is_some());
            drop(first);
            device.unreserve(device.reserve().expect("given back"));
            drop(tickets);
            assert_eq!(host.complete_owed(Errno::EIO), slots - 1, "lap {lap}");
            assert_eq!((host.owed(), host.faults().total()), (0, 0));
        }
        // Each slot is free once.
        let mut held: Vec<_> = (0..slots)
            .map(|_| device.reserve().expect("free").slot())
            .collect();
        held.sort_unstable();
        assert!(held.into_iter().eq(0..slots));
        assert!(device.reserve().is_err());
    }
}

#[test]
fn an_owned_ticket_gives_its_outcome_and_its_slot() {
    let (mut host, device) = Queue::anonymous(QueueLayout::with_slots(1)).expect("memory");
    let limits = WaitLimits::new(Duration::from_secs(60));
    for lap in 0..5 {
        let ticket = device.submit_owned(fence(lap)).expect("free");
        assert_eq!(ticket.slot(), 0);
        let none = ticket.wait(WaitLimits::new(Duration::ZERO));
        assert!(matches!(none, Err(Unanswered::TimedOut { .. })), "{none:?}");
        assert_eq!(claim(&mut host), [0]);
        host.complete(0, Ok(0)).expect("owed");
        match lap {
            0 => assert_eq!(ticket.take().expect("served").tag, lap),
            1 => drop(device.take(ticket.into_ticket()).expect("served")),
            _ => {
                assert_eq!(ticket.wait(limits).expect("served").tag, lap);
                assert!(device.reserve().is_err(), "still the ticket's");
                drop(ticket);
            }
        }
    }
    let ticket = device.submit_owned(fence(9)).expect("free");
    host.set_state(LoopState::Failed);
    assert_eq!(ticket.wait(limits), Err(Unanswered::HostGone));
}

#[test]
#[should_panic(expected = "the slot was reserved in another queue")]
fn a_ticket_of_another_queue_is_not_abandoned() {
    let (_host, device) = Queue::anonymous(QueueLayout::with_slots(1)).expect("memory");
    let (_host, other) = Queue::anonymous(QueueLayout::with_slots(1)).expect("memory");
    other.abandon(device.submit(fence(0)).expect("free"));
}
