//! Several threads of the device at once.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use vyre_ioq::abi::header_word;

use crate::driver::Driver;
use crate::numbered::{Numbered, answer};
use crate::rig::Rig;

const THREADS: u32 = 8;

/// The longest time between two requests. How many come in a second is up to the machine.
const TIMEOUT: Duration = Duration::from_secs(90);

/// Serves until every request has been claimed once. Keeps some for the next pass, and completes in an order
/// other than that of the claims.
fn serve(rig: &mut Rig, total: u32) {
    let bare = rig.host.geometry().is_bare();
    let mut seen = vec![false; total as usize];
    let (mut claimed, mut done) = (VecDeque::new(), 0);
    let mut latest = Instant::now();
    while done < total {
        let many = rig.host.claim_published(0..u32::MAX, |claim| {
            let tag = claim.image.tag;
            assert!(
                Numbered::new(tag, bare).is(&claim.image),
                "torn: {:x?}",
                claim.image
            );
            let before = std::mem::replace(&mut seen[tag as usize], true);
            assert!(!before, "tag {tag} came twice");
            claimed.push_back((claim.slot, tag));
        });
        // Every few outcomes: some requests are told of, and some are not.
        if done % 5 == 0 {
            rig.host.announce_claims();
        }
        while claimed.len() > if many == 0 { 0 } else { 3 } {
            let middle = claimed.len() / 2;
            let (slot, tag) = claimed.swap_remove_back(middle).expect("some");
            rig.host.complete(slot, answer(tag)).expect("owed once");
            done += 1;
        }
        if many == 0 {
            assert!(latest.elapsed() < TIMEOUT, "{done} of {total} came");
            std::thread::yield_now();
        } else {
            latest = Instant::now();
        }
    }
    assert!(seen.iter().all(|&seen| seen), "one was lost");
    assert_eq!((rig.host.owed(), rig.host.faults().total()), (0, 0));
}

fn many(driver: &mut Driver, mut rig: Rig, each: u32) {
    driver.tell(&format!("threads {THREADS} {each}"));
    serve(&mut rig, THREADS * each);
    assert_eq!(driver.answer(), format!("ok {}", THREADS * each));
    let name = &driver.name;
    println!("{name}: {THREADS} threads, {each} requests each: none lost, doubled or torn");
    driver.expect("reserve", "ok 0");
}

pub(crate) fn many_threads(driver: &mut Driver) {
    // Fewer slots than requests at a time; then more, in two groups.
    for (slots, each) in [(24, 5000), (100, 5000)] {
        let rig = Rig::headed(driver, slots);
        many(driver, rig, each);
    }
    // With a host that claims to sleep all the time, every submission rings.
    let rig = Rig::headed(driver, 24);
    rig.memory.store(header_word::FEATURES, 1);
    rig.attach(driver);
    rig.memory.store(header_word::ASLEEP, 1);
    let memory = rig.memory.clone();
    many(driver, rig, 1000);
    let rung = memory.load(header_word::DOORBELL);
    assert_eq!(rung > 0, driver.has("doorbell"), "{rung} rings");
}

pub(crate) fn many_threads_in_the_bare_layout(driver: &mut Driver) {
    let rig = Rig::bare_with_counts(driver, 24, 12);
    many(driver, rig, 5000);
}
