//! Both ends of a queue, on one thread: depth, reuse, tickets, and what each may rely on when the
//! other is gone.

#![cfg(feature = "std")]

mod common;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::{Memory, SetOnDrop, WORD, claim, queue, read};
use vyre_ioq::abi::{status, word};
use vyre_ioq::{
    DeviceQueue, Errno, HostQueue, LoopState, Queue, QueueFull, QueueLayout, Reservation, Ticket,
    WaitError,
};

const SHORT: Duration = Duration::from_millis(20);
/// Long enough for another thread to get its turn on a busy machine.
const LONG: Duration = Duration::from_millis(300);

fn serve(host: &mut HostQueue) {
    for slot in claim(host) {
        host.complete(slot, Ok(slot)).expect("owed");
    }
}

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
        assert_eq!(host.in_flight(), slots);
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
            // Given back in another order: the next lap begins at the lowest again.
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

/// Rule: ABI-4.11.
#[test]
fn a_slot_that_is_owed_nothing_is_not_completed() {
    let (mut host, device) = queue(2);
    let _ticket = device.submit(read(0)).expect("free");
    for slot in [0, 1, 2, 4096, u32::MAX] {
        assert_eq!(
            host.complete(slot, Ok(1)).expect_err("unclaimed").slot,
            slot
        );
        assert!(!host.is_owed(slot));
    }
    claim(&mut host);
    assert!(host.is_owed(0));
    let batch = [(0, Ok(1)), (0, Ok(2)), (1, Ok(3))];
    assert_eq!(host.complete_batch(&batch).expect_err("twice").slot, 0);
    assert_eq!(host.in_flight(), 0);
}

#[test]
fn a_slot_that_is_owed_nothing_holds_up_no_other_of_its_batch() {
    let (mut host, device) = queue(5);
    let tickets = [0, 1, 2].map(|tag| device.submit(read(tag)).expect("free"));
    claim(&mut host);
    let batch = [
        (0, Ok(7)),
        (4, Ok(8)),
        (1, Err(Errno::EIO)),
        (u32::MAX, Ok(8)),
        (0, Ok(8)),
        (2, Ok(9)),
    ];
    let not_owed = host.complete_batch(&batch).expect_err("two of them");
    assert_eq!(not_owed.slot, 4, "the first");
    assert_eq!(host.in_flight(), 0);
    let taken = tickets.map(|ticket| device.take(ticket).expect("an outcome").bytes());
    assert_eq!(taken, [Ok(7), Err(Errno::EIO), Ok(9)]);
}

#[test]
fn a_set_of_slots_is_completed_at_once() {
    let (mut host, device) = queue(70);
    let tickets: Vec<_> = (0..70)
        .map(|tag| device.submit(read(tag)).expect("free"))
        .collect();
    let groups: Vec<_> = host.sweep(0..70).collect();
    assert_eq!(groups, [0..64, 64..70]);
    let [first, second] = [0, 1].map(|group: usize| host.claim(groups[group].clone()).slots());
    let mut odd = first.to_empty();
    assert_eq!((odd.len(), odd.last()), (0, None));
    first
        .into_iter()
        .filter(|slot| slot % 2 == 1)
        .for_each(|slot| odd.insert(slot));
    assert_eq!((odd.len(), odd.last()), (32, Some(63)));
    assert!([1, 63].iter().all(|&slot| odd.contains(slot)));
    assert!([0, 62, 65].iter().all(|&slot| !odd.contains(slot)));
    host.complete_all(odd, Ok(5)).expect("owed");
    assert_eq!(host.in_flight(), 38);
    let not_owed = host
        .complete_all(first, Err(Errno::EIO))
        .expect_err("half of them");
    assert_eq!(not_owed.slot, 1, "the first");
    assert_eq!(host.in_flight(), 6, "all others are completed");
    host.complete_all(second, Ok(7)).expect("owed");
    assert_eq!(host.complete_all(second.to_empty(), Ok(7)), Ok(()));
    let nowhere = host.claim(u32::MAX - 1..u32::MAX).slots();
    assert_eq!(host.complete_all(nowhere, Ok(7)), Ok(()));
    for (slot, ticket) in (0..).zip(tickets) {
        let expected = match slot {
            64.. => Ok(7),
            _ if slot % 2 == 1 => Ok(5),
            _ => Err(Errno::EIO),
        };
        assert_eq!(device.take(ticket).expect("an outcome").bytes(), expected);
    }
    assert_eq!((host.in_flight(), host.faults().total()), (0, 0));
}

/// Slots that another queue's host claimed, of which there are more.
#[test]
fn a_set_of_slots_of_another_queue_is_owed_nothing() {
    let (mut host, _device) = queue(2);
    let (mut other, others) = queue(130);
    let _tickets: Vec<_> = (0..130)
        .map(|tag| others.submit(read(tag)).expect("free"))
        .collect();
    for group in other.sweep(0..130) {
        let slots = other.claim(group.clone()).slots();
        assert_eq!(
            host.complete_all(slots, Ok(0)).expect_err("none").slot,
            group.start
        );
    }
}

#[test]
fn a_store_into_a_claimed_slot_is_counted_when_its_set_is_completed() {
    let layout = QueueLayout::with_slots(3);
    let memory = Memory::new(layout.bytes());
    let (mut host, device) = Queue::in_region(memory.region(), layout).expect("fit");
    let _tickets = [0, 1, 2].map(|tag| device.submit(read(tag)).expect("free"));
    let slots = host.claim(0..3).slots();
    let status = host.geometry().slots_offset() / WORD + 16 + word::STATUS;
    memory.store(status, status::OK);
    host.complete_all(slots, Ok(0)).expect("owed");
    assert_eq!(host.faults().overwritten, 1);
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

#[test]
fn a_sweep_looks_at_its_range_alone() {
    let (mut host, device) = queue(4);
    let _tickets = [0; 4].map(|tag| device.submit(read(tag)).expect("free"));
    let mut slots = Vec::new();
    for range in [
        2..3,
        Range { start: 3, end: 1 },
        4..9,
        u32::MAX - 1..u32::MAX,
        3..u32::MAX,
    ] {
        host.claim_published(range, |claim| slots.push(claim.slot));
    }
    assert_eq!(slots, [2, 3]);
}

#[test]
fn a_claim_whose_sink_panics_is_still_owed() {
    let (mut host, device) = queue(2);
    let ticket = device.submit(read(0)).expect("free");
    let sunk = catch_unwind(AssertUnwindSafe(|| {
        host.claim_published(0..2, |_| panic!("sink"));
    }));
    assert!(sunk.is_err());
    assert_eq!((host.in_flight(), host.complete_owed(Errno::EIO)), (1, 1));
    assert_eq!(
        device.take(ticket).expect("served").bytes(),
        Err(Errno::EIO)
    );
}

/// Rule: ABI-7.3.
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

/// Slots as a dead device end left them: what the next one may use, and what not yet.
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
