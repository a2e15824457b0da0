//! Claims: which slots a sweep covers, and which words a claim reads.

#![cfg(feature = "std")]

mod common;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{Memory, fence, queue, read};
use vyre_ioq::{Errno, Queue, QueueLayout};

#[test]
fn a_sweep_covers_its_range_alone() {
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
    assert_eq!((host.owed(), host.complete_owed(Errno::EIO)), (1, 1));
    assert_eq!(
        device.take(ticket).expect("served").bytes(),
        Err(Errno::EIO)
    );
}

/// The slots of a queue may end before its memory does. Claims of a longer queue name slots behind it.
#[test]
fn an_image_is_of_a_slot_of_the_queue() {
    for layout in [QueueLayout::with_slots, QueueLayout::bare] {
        let memory = Memory::new(layout(2).bytes() + 4096);
        let (host, _device) = Queue::in_region(memory.region(), layout(2)).expect("fit");
        let (mut longer, others) = Queue::anonymous(layout(4)).expect("memory");
        let _tickets = [0, 1, 2, 3].map(|tag| others.submit(fence(tag)).expect("free"));
        let mut claims = longer.claim(0..4);
        for slot in 0..4 {
            let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                host.next_claim(&mut claims)
            }));
            match (slot, read) {
                (0..2, Ok(Some(claim))) => assert_eq!((claim.slot, claim.image.op), (slot, 0)),
                (_, read) => assert!(
                    slot >= 2 && read.is_err(),
                    "slot {slot} is behind the queue"
                ),
            }
        }
        assert_eq!(host.next_claim(&mut claims), None);
    }
}
