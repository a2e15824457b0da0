//! Round trips.

use vyre_ioq::Errno;
use vyre_ioq::abi::{status, word};

use crate::driver::Driver;
use crate::rig::{Rig, bare_read_tagged, read_tagged};

/// Outcomes as the host stores them and as the driver prints them.
fn answers() -> Vec<(Result<u32, Errno>, String)> {
    let mut all: Vec<_> = [512, 511, 1, 0, u32::MAX]
        .map(|bytes| (Ok(bytes), format!("OK {bytes}")))
        .into();
    let errnos = [5, 9, 13, 22, 28, 34, 61, 110, 125, 0, 4095, u32::MAX];
    all.extend(errnos.map(|errno| (Err(Errno::from_raw(errno)), format!("ERROR {errno}"))));
    all
}

/// Every kind of outcome by `poll` and `take`, with and without a header.
pub(crate) fn outcomes(driver: &mut Driver) {
    for bare in [false, true] {
        let mut rig = match bare {
            true => Rig::bare_with_counts(driver, 1, 4),
            false => Rig::headed(driver, 1),
        };
        for (tag, (result, said)) in answers().into_iter().enumerate() {
            let tag = u32::MAX - tag as u32;
            let request = if bare {
                bare_read_tagged(tag)
            } else {
                read_tagged(tag)
            };
            driver.expect(&format!("submit {request}"), "ok 0");
            rig.serve(0, result);
            let left = rig.words::<8>(0);
            driver.expect("poll 0", &format!("ok {tag} {said}"));
            driver.expect("poll 0", &format!("ok {tag} {said}"));
            assert_eq!(rig.words::<8>(0), left, "a poll changes nothing");
            driver.expect("take 0", &format!("ok {tag} {said}"));
            let mut taken = rig.words::<8>(0);
            taken[word::STATUS] = left[word::STATUS];
            assert_eq!(taken, left, "recycling stores the status at most");
        }
    }
}

/// The host of a bare queue stores STATUS only. So a device may publish again by STATUS alone, as that of
/// vyre 0.7 does, and its device end must not take COUNT for a result.
pub(crate) fn bare_outcomes_are_status_alone(driver: &mut Driver) {
    let mut rig = Rig::bare(driver, 2, 4);
    for (tag, (result, _)) in answers().into_iter().enumerate() {
        let said = match result {
            Ok(_) => format!("ok {tag} OK 512"),
            Err(_) => format!("ok {tag} ERROR 5"),
        };
        driver.expect(&format!("submit {}", bare_read_tagged(tag as u32)), "ok 0");
        let mut asked = rig.words::<8>(0);
        for by_status in [false, true] {
            if by_status {
                rig.store_status(0, status::PUBLISHED);
            }
            assert_eq!(rig.claim().len(), 1);
            asked[word::STATUS] = status::CLAIMED;
            assert_eq!(rig.words::<8>(0), asked, "told at the claim");
            driver.expect("poll 0", "ok pending");
            rig.host.complete(0, result).expect("owed");
            asked[word::STATUS] = [status::ERROR, status::OK][usize::from(result.is_ok())];
            assert_eq!(rig.words::<8>(0), asked, "STATUS alone");
            driver.expect("poll 0", &said);
        }
        let take = ["take 0", "wait 0 1000000 0"][tag % 2];
        driver.expect(take, &said);
        assert_eq!(rig.words::<8>(1), [0; 8], "the other slot");
    }
}

/// A device end may store EMPTY when it takes an outcome, but then the slot's cache line moves from the host
/// and back. Only the cost of a request depends on this.
pub(crate) fn takes_and_reservations_store_nothing(driver: &mut Driver) {
    for bare in [false, true] {
        let mut rig = match bare {
            true => Rig::bare_with_counts(driver, 2, 4),
            false => Rig::headed(driver, 2),
        };
        for (tag, (result, said)) in answers().into_iter().enumerate() {
            let request = match bare {
                true => bare_read_tagged(tag as u32),
                false => read_tagged(tag as u32),
            };
            driver.expect(&format!("submit {request}"), "ok 0");
            rig.serve(0, result);
            let left = rig.words::<16>(0);
            let take = ["take 0", "wait 0 1000000 0"][tag % 2];
            driver.expect(take, &format!("ok {tag} {said}"));
            assert_eq!(rig.words::<16>(0), left, "{take} stored something");
            if tag % 3 == 0 {
                driver.expect("reserve", "ok 0");
                assert_eq!(rig.words::<16>(0), left, "a reservation did");
                driver.expect(&format!("publish 0 {request}"), "ok");
                driver.expect("poll 0", "ok pending");
                rig.serve(0, Ok(tag as u32 + 3));
                driver.expect("take 0", &format!("ok {tag} OK {}", tag + 3));
            }
        }
        assert_eq!(rig.host.faults().total(), 0);
    }
}

pub(crate) fn nothing_is_taken_before_its_time(driver: &mut Driver) {
    let mut rig = Rig::headed(driver, 2);
    driver.expect("reserve", "ok 0");
    driver.expect(&format!("publish 0 {}", read_tagged(1)), "ok");
    // Words that are no outcome, whatever the host may have meant by them.
    for left in [
        status::PUBLISHED,
        status::CLAIMED,
        3,
        0x12,
        0x1000_0010,
        u32::MAX,
    ] {
        rig.store_status(0, left);
        driver.expect("poll 0", "ok pending");
        driver.expect("take 0", "ok pending");
        assert_eq!(rig.status(0), left, "left alone");
    }
    rig.store_status(0, status::PUBLISHED);
    driver.expect("reserve", "ok 1");
    rig.serve(0, Ok(5));
    driver.expect("take 0", "ok 1 OK 5");
    driver.expect("reserve", "ok 0");
}

pub(crate) fn many_laps_in_one_slot(driver: &mut Driver) {
    let mut rig = Rig::headed(driver, 2);
    let answers = answers();
    for lap in 0..1000_u32 {
        driver.expect(&format!("submit {}", read_tagged(lap)), "ok 0");
        let claims = rig.claim();
        assert_eq!(claims.len(), 1);
        assert_eq!((claims[0].slot, claims[0].image.tag), (0, lap));
        let (result, said) = &answers[lap as usize % answers.len()];
        rig.host.complete(0, *result).expect("owed");
        driver.expect("take 0", &format!("ok {lap} {said}"));
    }
    assert_eq!(rig.words::<16>(1), [0; 16]);
    assert_eq!(rig.host.faults().total(), 0);
}

/// 1 to 64 slots, at every word offset in a cache line.
pub(crate) fn bare_queues_of_every_size_and_place(driver: &mut Driver) {
    for slots in 1..=64 {
        let offset = slots as usize % 16 * 4;
        let mut rig = Rig::bare_with_counts(driver, slots, offset);
        for slot in 0..slots {
            let request = bare_read_tagged(slot ^ 0x5a5a);
            driver.expect(&format!("submit {request}"), &format!("ok {slot}"));
        }
        driver.expect("reserve", "err QueueFull");
        let claims = rig.claim();
        assert_eq!(claims.len(), slots as usize);
        for claim in &claims {
            assert_eq!(claim.image.tag, claim.slot ^ 0x5a5a);
            assert_eq!(claim.image.buffer_offset_low, 0);
            rig.host.complete(claim.slot, Ok(claim.slot)).expect("owed");
        }
        for slot in (0..slots).rev() {
            let taken = format!("ok {} OK {slot}", slot ^ 0x5a5a);
            driver.expect(&format!("take {slot}"), &taken);
        }
        // The words before and after the queue are nobody's.
        let around = (0..offset / 4).chain(offset / 4 + slots as usize * 8..rig.memory.len() / 4);
        assert!(around.into_iter().all(|word| rig.memory.load(word) == 0));
    }
}
