//! States of a slot: which end stores which word, and how often.
//!
//! Each store moves the cache line of the slot to the other side, so a request takes two stores of STATUS: the
//! publication and the outcome. More stores would be legal; the tests that count them guard the cost.

#![cfg(feature = "std")]

mod common;

use common::{Memory, WORD, claim, read};
use vyre_ioq::abi::{HEADER_BYTES, status, word};
use vyre_ioq::{DeviceQueue, Errno, HostQueue, Queue, QueueLayout};

/// A queue in memory that the test can read and write.
struct Rig {
    memory: Memory,
    host: HostQueue,
    device: DeviceQueue,
    bare: bool,
}

impl Rig {
    fn new(slots: u32, bare: bool) -> Self {
        let layout = match bare {
            true => QueueLayout::bare(slots).with_counts(),
            false => QueueLayout::with_slots(slots),
        };
        let memory = Memory::new(layout.bytes());
        let (host, device) = Queue::in_region(memory.region(), layout).expect("fit");
        Self {
            memory,
            host,
            device,
            bare,
        }
    }

    fn claim(&mut self) -> Vec<u32> {
        claim(&mut self.host)
    }

    fn place(&self, slot: u32) -> usize {
        let (first, stride) = match self.bare {
            true => (0, 8),
            false => (HEADER_BYTES / WORD, 16),
        };
        first + slot as usize * stride + word::STATUS
    }

    fn status(&self, slot: u32) -> u32 {
        self.memory.load(self.place(slot))
    }

    fn store_status(&self, slot: u32, value: u32) {
        self.memory.store(self.place(slot), value);
    }

    /// Returns every word of the queue.
    fn words(&self) -> Vec<u32> {
        let bytes = self.host.geometry().bytes();
        (0..bytes / WORD)
            .map(|word| self.memory.load(word))
            .collect()
    }
}

const OUTCOMES: [Result<u32, Errno>; 2] = [Ok(9), Err(Errno::EIO)];
const LAYOUTS: [bool; 2] = [false, true];

/// Performance: the module's comment says why.
///
/// Rules: ABI-4.4, ABI-4.5.
#[test]
fn a_claim_stores_nothing() {
    let mut rig = Rig::new(20, false);
    let _tickets = [0, 1, 2].map(|tag| rig.device.submit(read(tag)).expect("free"));
    let before = rig.words();
    assert_eq!(rig.claim(), [0, 1, 2]);
    assert_eq!(rig.claim(), [], "claimed, and PUBLISHED all the same");
    assert!(rig.words() == before, "a store");
    assert_eq!(rig.host.owed(), 3);
}

/// Devices of vyre 0.7 may wait for CLAIMED.
///
/// Rule: ABI-4.7.
#[test]
fn a_claim_in_a_bare_queue_is_announced_at_once() {
    let mut rig = Rig::new(20, true);
    let tickets = [0, 1, 2].map(|tag| rig.device.submit(read(tag)).expect("free"));
    let mut expected = rig.words();
    let mut seen = Vec::new();
    for range in [0..2, 2..20] {
        for slot in range.clone().take(3).filter(|&slot| slot < 3) {
            expected[slot as usize * 8 + word::STATUS] = status::CLAIMED;
        }
        rig.host
            .claim_published(range, |claim| seen.push(claim.slot));
        assert!(rig.words() == expected, "CLAIMED, and nothing else");
    }
    assert_eq!((seen, rig.claim()), (vec![0, 1, 2], vec![]));
    assert_eq!(
        (
            rig.host.announce_claims(),
            rig.host.announce_lasting_claims()
        ),
        (0, 0)
    );
    for (slot, ticket) in (0..).zip(tickets) {
        rig.host.complete(slot, Ok(slot)).expect("owed");
        let outcome = rig.device.take(ticket).expect("an outcome");
        assert_eq!(outcome.bytes(), Ok(slot));
    }
    assert_eq!(rig.host.faults().total(), 0);
}

/// Performance: the module's comment says why.
///
/// Rules: ABI-1.3, ABI-4.4.
#[test]
fn a_take_and_a_reservation_store_nothing() {
    for bare in LAYOUTS {
        for result in OUTCOMES {
            let mut rig = Rig::new(2, bare);
            let [first, second] = [0, 1].map(|tag| rig.device.submit(read(tag)).expect("free"));
            assert_eq!(rig.claim(), [0, 1]);
            for slot in 0..2 {
                rig.host.complete(slot, result).expect("owed");
            }
            let before = rig.words();
            assert_eq!(
                rig.device.take(first).expect("an outcome").bytes(),
                result,
                "by `take`"
            );
            assert_eq!(
                rig.device.wait(second).expect("an outcome").bytes(),
                result,
                "by `wait`"
            );
            let both = [0, 1].map(|_| rig.device.reserve().expect("taken"));
            both.into_iter()
                .for_each(|reserved| rig.device.unreserve(reserved));
            assert!(rig.words() == before, "a store");

            // A slot that is kept belongs to the caller until it is given back.
            let [ticket, _other] = [0, 1].map(|tag| rig.device.submit(read(tag)).expect("free"));
            let ticket = rig
                .device
                .take_and_keep(ticket)
                .expect_err("no outcome yet");
            rig.claim();
            rig.host.complete(0, result).expect("owed");
            let before = rig.words();
            let (outcome, kept) = rig.device.take_and_keep(ticket).expect("an outcome");
            assert_eq!(outcome.bytes(), result);
            assert!(rig.device.reserve().is_err(), "the slot is kept");
            assert!(rig.words() == before, "a store");
            assert_eq!(rig.device.publish(kept, &read(2)).slot(), 0);
        }
    }
}

/// A device may recycle a slot by EMPTY, as that of vyre 0.7 does, or publish over the outcome. It then finds
/// the outcome of its own request.
///
/// Rule: ABI-4.8.
#[test]
fn a_publication_over_anything_that_is_free_is_served() {
    for bare in LAYOUTS {
        for left in [status::EMPTY, status::OK, status::ERROR] {
            for result in OUTCOMES {
                let mut rig = Rig::new(2, bare);
                let ticket = rig.device.submit(read(1)).expect("free");
                assert_eq!(rig.claim(), [0]);
                rig.host.complete(0, Ok(7)).expect("owed");
                let _ = rig.device.take(ticket).expect("an outcome");
                rig.store_status(0, left);
                assert_eq!(rig.claim(), [], "nothing to do over {left:#x}");

                let ticket = rig.device.submit(read(2)).expect("taken");
                assert_eq!(ticket.slot(), 0);
                assert_eq!(rig.device.poll(&ticket), None, "the outcome before it");
                assert_eq!(rig.claim(), [0], "published over {left:#x}");
                assert_eq!(rig.device.poll(&ticket), None, "claimed");
                rig.host.complete(0, result).expect("owed");
                let outcome = rig.device.take(ticket).expect("an outcome");
                assert_eq!((outcome.tag, outcome.bytes()), (2, result));
                assert_eq!(rig.host.faults().total(), 0);
            }
        }
    }
}

/// Rule: ABI-4.6.
#[test]
fn each_claim_is_announced_once() {
    for slots in [64, 130] {
        let mut rig = Rig::new(slots, false);
        assert_eq!(rig.host.announce_claims(), 0, "nothing is owed");
        for lap in 0..3 {
            let mut tickets: Vec<_> = (0..slots)
                .map(|tag| rig.device.submit(read(tag)).expect("free"))
                .collect();
            let late = tickets.pop().expect("some");
            assert_eq!(rig.host.announce_claims(), 0, "lap {lap}: not claimed yet");
            rig.host.claim_published(0..slots - 1, drop);
            rig.host.complete(3, Ok(5)).expect("owed");
            assert_eq!(rig.host.announce_claims(), slots - 2, "lap {lap}");
            for slot in 0..slots {
                let expected = match slot {
                    3 => status::OK,
                    _ if slot == slots - 1 => status::PUBLISHED,
                    _ => status::CLAIMED,
                };
                assert_eq!(rig.status(slot), expected, "lap {lap}, slot {slot}");
            }
            assert_eq!(
                rig.claim(),
                [slots - 1],
                "and the others are not claimed again"
            );
            rig.store_status(4, status::PUBLISHED);
            assert_eq!(rig.host.announce_claims(), 1, "the one that came last");
            assert_eq!(rig.status(4), status::PUBLISHED, "announced before");
            assert_eq!(rig.host.announce_claims(), 0, "once is all");
            for (slot, ticket) in (0..).zip(tickets.into_iter().chain([late])) {
                if slot != 3 {
                    rig.host.complete(slot, Ok(5)).expect("owed");
                }
                let outcome = rig.device.take(ticket).expect("an outcome");
                assert_eq!((outcome.tag, outcome.bytes()), (slot, Ok(5)));
            }
        }
        assert_eq!(rig.host.faults().total(), 0);
    }
}

/// Performance: a store takes the slot's cache line away from the device.
///
/// Rule: ABI-4.6.
#[test]
fn a_claim_that_ends_soon_is_not_announced() {
    for slots in [2, 65] {
        let mut rig = Rig::new(slots, false);
        let long = rig.device.submit(read(0)).expect("free");
        assert_eq!(rig.host.announce_lasting_claims(), 0, "not claimed yet");
        assert_eq!(rig.claim(), [0]);
        for lap in 1..4 {
            // The request ends between two calls, or lasts across one; it is in the same slot each time.
            for calls in [0, 1] {
                let short = rig.device.submit(read(1)).expect("free");
                assert_eq!(rig.claim(), [1]);
                for _ in 0..calls {
                    let announced = u32::from(lap == 2);
                    assert_eq!(rig.host.announce_lasting_claims(), announced, "lap {lap}");
                }
                assert_eq!(rig.status(1), status::PUBLISHED);
                rig.host.complete(1, Ok(1)).expect("owed");
                let _ = rig.device.take(short).expect("an outcome");
            }
            let expected = if lap < 2 {
                status::PUBLISHED
            } else {
                status::CLAIMED
            };
            assert_eq!(rig.status(0), expected, "lap {lap}");
        }
        rig.host.complete(0, Ok(1)).expect("owed");
        let _ = rig.device.take(long).expect("an outcome");
        assert_eq!(rig.host.faults().total(), 0);
    }
}

/// The word is the device's. It is found and counted when the slot is completed.
///
/// Rule: ABI-4.16.
#[test]
fn a_word_that_a_device_stored_over_its_request_is_left_there() {
    for bare in LAYOUTS {
        for hostile in [status::EMPTY, status::OK, status::ERROR, 3, 0x100, u32::MAX] {
            let mut rig = Rig::new(1, bare);
            let ticket = rig.device.submit(read(1)).expect("free");
            assert_eq!(rig.claim(), [0]);
            rig.store_status(0, hostile);
            assert_eq!(rig.host.announce_claims(), 0);
            assert_eq!(rig.status(0), hostile);
            // Whether it was announced or not, PUBLISHED is neither announced again nor claimed.
            rig.store_status(0, status::PUBLISHED);
            assert_eq!((rig.host.announce_claims(), rig.claim()), (0, vec![]));
            assert_eq!(rig.status(0), status::PUBLISHED);
            rig.store_status(0, hostile);
            rig.host.complete(0, Ok(5)).expect("owed");
            assert_eq!(rig.host.faults().overwritten, 1, "{hostile:#x}");
            assert_eq!(rig.device.take(ticket).expect("one").bytes(), Ok(5));
        }
    }
}

/// A killed host leaves the slots that it served CLAIMED. The next host leaves those alone and serves the
/// rest.
///
/// Rule: ABI-7.18.
#[test]
fn a_new_host_of_a_bare_queue_serves_what_was_not_claimed() {
    let memory = Memory::new(QueueLayout::bare(4).bytes());
    let mut dead = HostQueue::attach_bare_with_counts(memory.region()).expect("four slots");
    let device = DeviceQueue::attach_bare_with_counts(memory.region()).expect("four slots");
    let tickets = [0, 1, 2, 3].map(|tag| device.submit(read(tag)).expect("free"));
    dead.claim_published(0..2, drop);
    dead.complete(1, Ok(6)).expect("owed");
    // A host that was killed completes nothing. So this one is dropped at the end only.

    let mut host = HostQueue::attach_bare_with_counts(memory.region()).expect("four slots");
    assert_eq!(claim(&mut host), [2, 3]);
    for slot in 0..4 {
        let owed = slot >= 2;
        assert_eq!(host.complete(slot, Ok(slot)).is_ok(), owed, "slot {slot}");
    }
    let taken = tickets.map(|ticket| device.take(ticket).ok().map(|outcome| outcome.bytes()));
    assert_eq!(taken, [None, Some(Ok(6)), Some(Ok(2)), Some(Ok(3))]);
    assert_eq!(
        host.faults().total(),
        0,
        "the dead host claimed slot 0, not the device"
    );
    // CLAIMED that a device stores from now on is a fault.
    memory.store(3 * 8 + word::STATUS, status::CLAIMED);
    assert_eq!(claim(&mut host), []);
    assert_eq!(host.faults().forged_claim, 1);
    drop(dead);
}

/// Eight slots are judged at once by one byte of each status. No other bit may be lost.
///
/// Rule: ABI-4.15.
#[test]
fn a_word_that_is_no_status_is_counted_wherever_it_lies() {
    for bare in LAYOUTS {
        let rest = [status::EMPTY, status::PUBLISHED, status::OK, status::ERROR];
        for (others, slot) in rest
            .into_iter()
            .flat_map(|rest| (0..17).map(move |s| (rest, s)))
        {
            let bits = (0..32).map(|bit| 1_u32 << bit);
            for strange in bits
                .filter(|&bit| bit & 0x11 == 0)
                .chain([0x101, 0x0100_0010])
            {
                if cfg!(miri) && (strange.count_ones() == 1 || ![0, 7, 8, 16].contains(&slot)) {
                    continue;
                }
                let mut rig = Rig::new(17, bare);
                for other in (0..17).filter(|&other| other != slot) {
                    rig.store_status(other, others);
                }
                rig.store_status(slot, strange);
                let mut expected: Vec<u32> = (0..17).filter(|&other| other != slot).collect();
                expected.retain(|_| others == status::PUBLISHED);
                assert_eq!(rig.claim(), expected, "{strange:#x} in slot {slot}");
                assert_eq!(rig.host.faults().total(), 1, "{strange:#x} in slot {slot}");
            }
        }
    }
}
