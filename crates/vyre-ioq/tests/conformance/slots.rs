//! Tests of the slots that a device end reserves.

use vyre_ioq::abi::{GROUP_SLOTS, header_word, status};

use crate::driver::Driver;
use crate::rig::{Rig, bare_read_tagged, read_tagged};

/// Returns the numbers of the groups that are marked as in use. Group 0 has a word too, which nobody reads.
fn marks(rig: &Rig) -> Vec<u32> {
    let words = rig.memory.words::<64>(header_word::IN_USE);
    (1..64)
        .filter(|&group| words[group as usize] != 0)
        .collect()
}

fn fill(driver: &mut Driver, rig: &Rig, request: impl Fn(u32) -> String) {
    let slots = rig.host.geometry().slots();
    for slot in 0..slots {
        if slot % 2 == 0 {
            driver.expect("reserve", &format!("ok {slot}"));
            driver.expect(&format!("publish {slot} {}", request(slot)), "ok");
        } else {
            driver.expect(&format!("submit {}", request(slot)), &format!("ok {slot}"));
        }
        assert_eq!(rig.status(slot), status::PUBLISHED);
    }
    driver.expect("reserve", "err QueueFull");
    driver.expect(&format!("submit {}", request(0)), "err QueueFull");
}

/// Every slot can hold a request. The next submission fails until an outcome is taken.
pub(crate) fn depth_is_all_slots(driver: &mut Driver) {
    for slots in [1, 2, 31, 32, 33, 63, 64, 65, 96, 129, 4095, 4096] {
        let mut rig = Rig::headed(driver, slots);
        fill(driver, &rig, read_tagged);
        assert_eq!(rig.claim().len(), slots as usize);
        driver.expect("reserve", "err QueueFull");
        rig.host.complete(slots - 1, Ok(1)).expect("owed");
        driver.expect("reserve", "err QueueFull");
        driver.expect(
            &format!("take {}", slots - 1),
            &format!("ok {} OK 1", slots - 1),
        );
        driver.expect("reserve", &format!("ok {}", slots - 1));
        driver.expect("reserve", "err QueueFull");
    }
    for slots in [1, 31, 32, 33, 64] {
        let rig = Rig::bare(driver, slots, 0);
        fill(driver, &rig, bare_read_tagged);
    }
}

pub(crate) fn the_lowest_free_slot_first(driver: &mut Driver) {
    let mut rig = Rig::headed(driver, 200);
    fill(driver, &rig, read_tagged);
    assert_eq!(rig.claim().len(), 200);
    rig.host
        .complete_batch(&(0..200).map(|slot| (slot, Ok(slot))).collect::<Vec<_>>())
        .expect("owed");
    // Given back in some order, handed out from the lowest.
    let mut given = [199, 0, 64, 63, 128, 65, 31, 32, 33, 127, 1];
    for slot in given {
        driver.expect(&format!("take {slot}"), &format!("ok {slot} OK {slot}"));
    }
    given.sort_unstable();
    for slot in given {
        driver.expect("reserve", &format!("ok {slot}"));
    }
    driver.expect("reserve", "err QueueFull");
}

/// A device stores the mark of a group other than 0 before it publishes there.
pub(crate) fn groups_are_marked_first(driver: &mut Driver) {
    let mut rig = Rig::headed(driver, 3 * GROUP_SLOTS + 1);
    for lap in 0..2 {
        for slot in 0..=3 * GROUP_SLOTS {
            driver.expect("reserve", &format!("ok {slot}"));
            let groups: Vec<u32> = match lap {
                0 => (1..=slot / GROUP_SLOTS).collect(),
                _ => vec![1, 2, 3],
            };
            assert_eq!(
                marks(&rig),
                groups,
                "slot {slot}, before anything is published there"
            );
            driver.expect(&format!("publish {slot} {}", read_tagged(slot)), "ok");
            assert_eq!(rig.claim().len(), 1, "the host finds slot {slot}");
        }
        for slot in 0..=3 * GROUP_SLOTS {
            rig.host.complete(slot, Ok(0)).expect("owed");
            driver.expect(&format!("take {slot}"), &format!("ok {slot} OK 0"));
        }
        assert_eq!(marks(&rig), [1, 2, 3], "no mark is taken back");
    }
    // A second device end knows nothing of the marks of the first, and must not rely on them.
    for group in 1..4 {
        rig.memory.store(header_word::IN_USE + group, 0);
    }
    rig.attach(driver);
    assert_eq!(marks(&rig), [], "attaching marks nothing");
    for slot in 0..=GROUP_SLOTS {
        driver.expect("reserve", &format!("ok {slot}"));
    }
    assert_eq!(marks(&rig), [1]);
}

/// After an earlier device end, its requests stay until they have an outcome. Outcomes that nobody took, and
/// invalid status words, are overwritten.
pub(crate) fn left_over_slots(driver: &mut Driver) {
    for group in [0, 1] {
        let mut rig = Rig::headed(driver, 2 * GROUP_SLOTS);
        let first = group * GROUP_SLOTS;
        for slot in 0..first + 2 {
            driver.expect(
                &format!("submit {}", read_tagged(slot)),
                &format!("ok {slot}"),
            );
        }
        // Of the first two of the group, one is CLAIMED; all before them are out of the way.
        let claims = rig.claim().len() as u32;
        assert_eq!(claims, first + 2);
        assert_eq!(rig.host.announce_claims(), claims);
        for slot in 0..first {
            rig.host.complete(slot, Ok(0)).expect("owed");
            driver.expect(&format!("take {slot}"), &format!("ok {slot} OK 0"));
        }
        rig.host.complete(first, Ok(0)).expect("owed");
        driver.expect(&format!("take {first}"), &format!("ok {first} OK 0"));
        driver.expect("reserve", "ok 0");
        if first == 0 {
            driver.expect(&format!("publish 0 {}", read_tagged(9)), "ok");
        } else {
            rig.store_status(first, status::PUBLISHED);
        }
        for (slot, left) in (first + 2..).zip([status::OK, status::ERROR, 3, 0x77, u32::MAX]) {
            rig.store_status(slot, left);
        }

        rig.attach(driver);
        for slot in (0..first).chain(first + 2..first + 10) {
            driver.expect("reserve", &format!("ok {slot}"));
        }
        assert_eq!(rig.status(first), status::PUBLISHED, "left alone");
        assert_eq!(rig.status(first + 1), status::CLAIMED, "left alone");

        // Once they have an outcome, they are free.
        rig.host.complete(first + 1, Ok(77)).expect("owed");
        driver.expect("reserve", &format!("ok {}", first + 1));
        rig.serve(first, Ok(1));
        driver.expect("reserve", &format!("ok {first}"));
        driver.expect("reserve", &format!("ok {}", first + 10));

        // What is published in them next has an outcome of its own.
        for slot in first..first + 10 {
            driver.expect(&format!("publish {slot} {}", read_tagged(slot ^ 7)), "ok");
            driver.expect(&format!("poll {slot}"), "ok pending");
            let claims = rig.claim();
            assert_eq!(claims.len(), 1, "over what was left in slot {slot}");
            rig.host.complete(slot, Ok(slot)).expect("owed");
            driver.expect(
                &format!("take {slot}"),
                &format!("ok {} OK {slot}", slot ^ 7),
            );
        }
    }
}

pub(crate) fn an_attach_touches_no_slot(driver: &mut Driver) {
    let rig = Rig::headed(driver, 80);
    for slot in 0..80 {
        rig.store_status(slot, slot % 5 * 8 + 1);
    }
    let before = rig.memory.words::<2304>(0);
    rig.attach(driver);
    driver.expect("state", "ok Starting 0");
    assert!(
        rig.memory.words::<2304>(0) == before,
        "something was stored"
    );
}

/// An abandoned slot is reserved again only after its request has an outcome. The lowest free slot is still
/// reserved first.
pub(crate) fn abandoned_slots_come_back(driver: &mut Driver) {
    for slots in [4, 33, 130] {
        for bare in [false, true] {
            if bare && slots > 64 {
                continue;
            }
            let mut rig = match bare {
                true => Rig::bare(driver, slots, 4),
                false => Rig::headed(driver, slots),
            };
            let request = |tag| match bare {
                true => bare_read_tagged(tag),
                false => read_tagged(tag),
            };
            fill(driver, &rig, request);
            let last = slots - 1;
            for slot in [last, 1, 2] {
                driver.expect(&format!("abandon {slot}"), "ok");
            }
            driver.expect("reserve", "err QueueFull");
            assert_eq!(rig.claim().len() as u32, slots);
            rig.host.announce_claims();
            driver.expect("reserve", "err QueueFull");
            rig.host.complete(last, Ok(0)).expect("owed");
            driver.expect("reserve", &format!("ok {last}"));
            driver.expect("reserve", "err QueueFull");
            driver.expect(&format!("unreserve {last}"), "ok");
            // A free slot comes first; then what was abandoned and is over.
            rig.host.complete(1, Ok(0)).expect("owed");
            driver.expect("reserve", &format!("ok {last}"));
            driver.expect(&format!("submit {}", request(77)), "ok 1");
            driver.expect("poll 1", "ok pending");
            driver.expect("reserve", "err QueueFull");
            assert_eq!(rig.claim().len(), 1, "the new request");
            // It is abandoned in its turn: the outcome before it does not free the slot.
            driver.expect("abandon 1", "ok");
            driver.expect("reserve", "err QueueFull");
            rig.host.complete(1, Ok(0)).expect("owed");
            driver.expect(&format!("submit {}", request(78)), "ok 1");
            rig.serve(1, Ok(512));
            driver.expect("take 1", "ok 78 OK 512");
            rig.host.complete(2, Ok(0)).expect("owed");
            driver.expect("reserve", "ok 1");
            driver.expect("reserve", "ok 2");
            driver.expect("reserve", "err QueueFull");
            assert_eq!(rig.host.faults().total(), 0);
        }
    }
}
