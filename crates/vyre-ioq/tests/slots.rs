//! Slots of the device end: their number, their owners and their reuse.

#![cfg(feature = "std")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use common::{Memory, WORD, claim, queue, read, serve};
use vyre_ioq::abi::word;
use vyre_ioq::{
    DeviceQueue, Errno, HostQueue, LoopState, Queue, QueueFull, QueueLayout, Reservation, Ticket,
};

fn panics<T: std::fmt::Debug>(what: impl FnOnce() -> T) -> String {
    let panic = catch_unwind(AssertUnwindSafe(what)).expect_err("it panics");
    let text = panic.downcast_ref::<String>().expect("with a text");
    text.clone()
}

#[test]
fn a_queue_is_as_deep_as_it_has_slots() {
    let depths: &[u32] = if cfg!(miri) {
        &[1, 65]
    } else {
        &[1, 2, 63, 64, 65, 127, 128, 130, 4096]
    };
    for &slots in depths {
        let (mut host, device) = queue(slots);
        let tickets: Vec<Ticket> = (0..slots)
            .map(|tag| device.submit(read(tag)).expect("a free slot"))
            .collect();
        assert_eq!(device.submit(read(0)).err(), Some(QueueFull { slots }));
        assert_eq!(claim(&mut host), (0..slots).collect::<Vec<_>>());
        assert_eq!(host.owed(), slots);
        assert_eq!(
            device.reserve().err(),
            Some(QueueFull { slots }),
            "claimed is not free"
        );
        for slot in 0..slots {
            host.complete(slot, Ok(slot)).expect("owed");
        }
        assert_eq!(
            device.reserve().err(),
            Some(QueueFull { slots }),
            "served is not taken"
        );
        for (tag, ticket) in (0..slots).zip(tickets) {
            assert_eq!(ticket.slot(), tag, "the lowest free slot comes first");
            let outcome = device.take(ticket).expect("an outcome");
            assert_eq!((outcome.tag, outcome.bytes()), (tag, Ok(tag)));
        }
        assert!(device.reserve().is_ok());
    }
}

#[test]
fn a_reservation_that_is_given_back_is_free_again() {
    for layout in [QueueLayout::with_slots(2), QueueLayout::bare(2)] {
        let (mut host, device) = Queue::anonymous(layout).expect("memory");
        let [first, second] = [(); 2].map(|()| device.reserve().expect("free"));
        assert_eq!((first.slot(), second.slot()), (0, 1));
        device.unreserve(first);
        assert_eq!(claim(&mut host), [], "nothing was published");
        let ticket = device.submit(read(0)).expect("given back");
        assert_eq!(ticket.slot(), 0);
        assert_eq!(device.reserve().err(), Some(QueueFull { slots: 2 }));
        assert_eq!(device.publish(second, &read(1)).slot(), 1);
        assert_eq!(claim(&mut host), [0, 1]);
    }
}

#[test]
fn slots_are_used_again_on_every_lap() {
    for layout in [
        QueueLayout::with_slots(3),
        QueueLayout::bare(3).with_counts(),
    ] {
        let (mut host, device) = Queue::anonymous(layout).expect("memory");
        for lap in 0..40 {
            let tickets = [0, 1, 2].map(|slot| device.submit(read(lap * 3 + slot)).expect("free"));
            assert_eq!(tickets.each_ref().map(Ticket::slot), [0, 1, 2], "lap {lap}");
            serve(&mut host);
            // They are given back in another order; the next lap begins with the lowest again.
            for ticket in tickets.into_iter().rev() {
                let slot = ticket.slot();
                let outcome = device.take(ticket).expect("an outcome");
                assert_eq!((outcome.tag, outcome.bytes()), (lap * 3 + slot, Ok(slot)));
            }
        }
        assert_eq!(host.faults().total(), 0);
    }
}

#[test]
fn a_request_without_an_outcome_stays_with_its_ticket() {
    let (mut host, device) = queue(1);
    let ticket = device.submit(read(5)).expect("free");
    let ticket = device.take(ticket).expect_err("published");
    claim(&mut host);
    assert_eq!(device.poll(&ticket), None);
    let ticket = device.take(ticket).expect_err("claimed");
    host.complete(0, Err(Errno::ERANGE)).expect("owed");
    let outcome = device.poll(&ticket).expect("served");
    assert_eq!((outcome.tag, outcome.bytes()), (5, Err(Errno::ERANGE)));
    assert_eq!(device.take(ticket).expect("served"), outcome);
}

#[test]
fn a_ticket_or_a_reservation_of_another_queue_panics() {
    let (_host, device) = queue(1);
    let (_other_host, other) = queue(3);
    let ticket = other.submit(read(0)).expect("free");
    let ours = "the slot was reserved in another queue";
    assert!(panics(|| device.poll(&ticket)).contains(ours));
    let [reserved, spare] = [(); 2].map(|()| other.reserve().expect("free"));
    assert!(panics(|| device.publish(reserved, &read(0))).contains(ours));
    assert!(panics(|| device.unreserve(spare)).contains(ours));
    let ticket = other
        .wait_for(ticket, Duration::ZERO)
        .expect_err("unserved")
        .into_ticket();
    assert!(panics(|| device.take(ticket)).contains(ours));
}

#[test]
fn a_ticket_of_a_dead_device_end_panics_on_the_next_one_of_the_same_memory() {
    let layout = QueueLayout::with_slots(1);
    let memory = Memory::new(layout.bytes());
    let _host = HostQueue::create(memory.region(), &layout).expect("fit");
    let first = DeviceQueue::attach(memory.region()).expect("a header");
    let ticket = first.submit(read(0)).expect("free");
    drop(first);
    let second = DeviceQueue::attach(memory.region()).expect("a header");
    let text = panics(|| second.take(ticket));
    assert!(
        text.contains("the slot was reserved in another queue"),
        "{text}"
    );
}

/// A dead device end has left slots in every state. The next one may use some of them, and others later.
///
/// Rule: ABI-7.16.
#[test]
fn leftovers_of_a_dead_device_end_are_reused_once_they_are_served() {
    for bare in [false, true] {
        let layout = if bare {
            QueueLayout::bare(6).with_counts()
        } else {
            QueueLayout::with_slots(6)
        };
        let memory = Memory::new(layout.bytes());
        let (mut host, dead) = Queue::in_region(memory.region(), layout).expect("fit");
        let tickets = [0, 1, 2, 3].map(|tag| dead.submit(read(tag)).expect("free"));
        for slot in 1..4 {
            host.claim_published(slot..slot + 1, drop);
        }
        host.complete(2, Ok(5)).expect("owed");
        host.complete(3, Err(Errno::EIO)).expect("owed");
        let (first, stride) = if bare { (0, 8) } else { (4096 / WORD, 16) };
        memory.store(first + 5 * stride + word::STATUS, 0x77);
        drop((dead, tickets));

        // Published, claimed, OK, ERROR, EMPTY, unknown.
        let device = if bare {
            DeviceQueue::attach_bare_with_counts(memory.region())
        } else {
            DeviceQueue::attach(memory.region())
        };
        let device = device.expect("fit");
        let held = [(); 4].map(|()| device.reserve().expect("free"));
        assert_eq!(held.each_ref().map(Reservation::slot), [2, 3, 4, 5]);
        assert_eq!(device.reserve().err(), Some(QueueFull { slots: 6 }));
        assert_eq!(claim(&mut host), [0], "what the dead published is served");
        assert!(device.reserve().is_err());
        for (slot, reservation) in (2..6).zip(held) {
            let ticket = device.publish(reservation, &read(slot));
            assert_eq!(device.poll(&ticket), None, "an outcome of the dead");
            assert_eq!(claim(&mut host), [slot]);
            host.complete(slot, Ok(slot)).expect("owed");
            let outcome = device.poll(&ticket).expect("served");
            assert_eq!((outcome.tag, outcome.bytes()), (slot, Ok(slot)));
        }
        host.complete_owed(Errno::EIO);
        assert_eq!(device.submit(read(9)).expect("served").slot(), 0);
        assert_eq!(device.reserve().expect("served").slot(), 1);
        assert_eq!(claim(&mut host), [0]);
        let faults = host.faults();
        assert_eq!((faults.unknown_status, faults.total()), (1, 1), "slot 5");
    }
}

#[test]
fn both_ends_show_the_same_queue() {
    let layout = QueueLayout::with_slots(3).with_id(0x1_0000_0002);
    let (mut host, device) = Queue::anonymous(layout).expect("memory");
    assert_eq!(host.geometry(), device.geometry());
    assert_eq!((host.id(), device.id()), (0x1_0000_0002, 0x1_0000_0002));
    assert_eq!(device.geometry().bytes(), layout.bytes());
    assert_eq!(device.host_state(), Some(LoopState::Starting));
    host.set_state(LoopState::Running);
    host.beat();
    assert_eq!(device.host_state(), Some(LoopState::Running));
    assert_eq!(device.host_heartbeat(), Some(1));
}
