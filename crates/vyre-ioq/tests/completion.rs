//! Completion: a claimed slot gets one outcome, alone, in a batch or in a set. No other slot gets any.

#![cfg(feature = "std")]

mod common;

use common::{Memory, WORD, claim, queue, read};
use vyre_ioq::abi::{status, word};
use vyre_ioq::{Errno, Queue, QueueLayout};

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
    assert_eq!(host.owed(), 0);
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
    assert_eq!(host.owed(), 0);
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
    assert_eq!(host.owed(), 38);
    let not_owed = host
        .complete_all(first, Err(Errno::EIO))
        .expect_err("half of them");
    assert_eq!(not_owed.slot, 1, "the first");
    assert_eq!(host.owed(), 6, "all others are completed");
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
    assert_eq!((host.owed(), host.faults().total()), (0, 0));
}

/// The host of another, longer queue has claimed the slots.
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
