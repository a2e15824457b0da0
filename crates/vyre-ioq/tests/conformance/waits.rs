//! Tests of the waits of a device end, and of how it observes the host.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vyre_ioq::LoopState;
use vyre_ioq::abi::{header_word, status};

use crate::driver::Driver;
use crate::rig::{Rig, bare_read_tagged, read_tagged};

/// One minute in microseconds: longer than any wait that ends for another reason.
const LONG: u64 = 60_000_000;

/// The doorbell is rung only if the host offers one and sleeps.
pub(crate) fn the_doorbell_rings_when_asleep(driver: &mut Driver) {
    for features in [0, 1, u32::MAX, u32::MAX - 1] {
        for bell in [0, 7, u32::MAX - 1] {
            let rig = Rig::headed(driver, 2);
            rig.memory.store(header_word::FEATURES, features);
            rig.memory.store(header_word::DOORBELL, bell);
            let answer = driver.attach(0, rig.host.geometry().bytes(), "header");
            assert_eq!(answer, format!("ok 2 {} 0", features & 3));
            let mut rings = 0;
            for asleep in [0, 1, 1, 0, 1, 2, u32::MAX, 1] {
                rig.memory.store(header_word::ASLEEP, asleep);
                let rung = features & 1 == 1 && asleep == 1;
                driver.expect("ring", if rung { "ok woken" } else { "ok quiet" });
                rings += u32::from(rung);
                let found = rig.memory.load(header_word::DOORBELL);
                assert_eq!(found, bell.wrapping_add(rings), "each ring is a new number");
                let left = rig.memory.load(header_word::ASLEEP);
                assert_eq!(left, asleep, "the host's own");
            }
            assert_eq!(rings, (features & 1) * 4);
        }
    }
    let rig = Rig::bare(driver, 64, 0);
    driver.expect("ring", "ok quiet");
    assert!(
        rig.memory.words::<512>(0) == [0; 512],
        "a bare queue has no doorbell"
    );
}

/// Rule: ABI-7.19.
pub(crate) fn a_ring_wakes_a_host_in_another_process(driver: &mut Driver) {
    let rig = Rig::headed(driver, 2);
    rig.memory.store(header_word::FEATURES, 1);
    rig.attach(driver);
    driver.expect("wake", "ok quiet");
    rig.memory.store(header_word::ASLEEP, 1);
    let (memory, deadline) = (rig.memory.clone(), Instant::now() + Duration::from_secs(60));
    // A ring between the load and the wait ends the wait without a wake-up.
    let sleeper = std::thread::spawn(move || {
        while Instant::now() < deadline {
            let before = memory.load(header_word::DOORBELL);
            if memory.wait_futex(header_word::DOORBELL, before) {
                return true;
            }
        }
        false
    });
    while !sleeper.is_finished() {
        driver.expect("wake", "ok woken");
    }
    assert!(sleeper.join().expect("no panic"), "nobody woke the host");
}

/// A device arms before it sleeps, each time with another number, and sleeps on the word WAKEUPS.
///
/// Rules: ABI-7.20, ABI-7.21, ABI-7.23.
pub(crate) fn a_wait_sleeps_until_the_host_wakes_it(driver: &mut Driver) {
    let mut rig = Rig::headed(driver, 2);
    rig.memory.store(header_word::FEATURES, 1);
    rig.attach(driver);
    driver.expect("expect", "ok no");
    for armed in [0, 7, u32::MAX - 1] {
        rig.memory.store(header_word::FEATURES, 2);
        rig.memory.store(header_word::ARMED, armed);
        rig.attach(driver);
        driver.expect("expect", "ok yes");
        let first = rig.memory.load(header_word::ARMED);
        assert_eq!(first, armed.wrapping_add(1), "the next number");
        driver.expect(&format!("submit {}", read_tagged(5)), "ok 0");
        driver.tell(&format!("wait 0 {LONG} 0"));
        for _ in 0..5 {
            let before = rig.memory.load(header_word::ARMED);
            let wakeups = rig.memory.load(header_word::WAKEUPS);
            rig.memory
                .store(header_word::WAKEUPS, wakeups.wrapping_add(1));
            let end = Instant::now() + Duration::from_secs(60);
            while !rig.memory.wake_futex(header_word::WAKEUPS) {
                assert!(Instant::now() < end, "no thread of the device sleeps");
                thread::yield_now();
            }
            // It may take its time: it finds no outcome, and sleeps anew.
            while rig.memory.load(header_word::ARMED) == before {
                assert!(Instant::now() < end, "{before} announces two sleeps");
                thread::yield_now();
            }
            assert_ne!(rig.memory.load(header_word::ARMED), 0);
        }
        rig.serve(0, Ok(9));
        assert_eq!(driver.answer(), "ok 5 OK 9");
    }
}

pub(crate) fn what_the_host_says_of_itself(driver: &mut Driver) {
    let mut rig = Rig::headed(driver, 1);
    let states = [
        (LoopState::Starting, "Starting"),
        (LoopState::Running, "Running"),
        (LoopState::Draining, "Draining"),
        (LoopState::Stopped, "Stopped"),
        (LoopState::Failed, "Failed"),
    ];
    for (beat, (state, name)) in (1..).zip(states) {
        rig.host.set_state(state);
        rig.host.beat();
        driver.expect("state", &format!("ok {name} {beat}"));
    }
    for unknown in [5, 6, 0x100, 0x8000_0001, u32::MAX] {
        rig.memory.store(header_word::STATE, unknown);
        driver.expect("state", "ok Failed 5");
    }
    let _bare = Rig::bare(driver, 64, 0);
    driver.expect("state", "ok none");
}

pub(crate) fn a_wait_ends_with_the_outcome(driver: &mut Driver) {
    let mut rig = Rig::headed(driver, 1);
    for (tag, late) in [0, 0, 1, 20, 100].into_iter().enumerate() {
        driver.expect(&format!("submit {}", read_tagged(tag as u32)), "ok 0");
        if late == 0 {
            // There before the wait begins: also a limit of nothing finds it, and so it does when
            // the host has stopped since.
            rig.serve(0, Ok(9));
            rig.host
                .set_state([LoopState::Running, LoopState::Stopped][tag]);
            driver.expect("wait 0 0 0", &format!("ok {tag} OK 9"));
            rig.host.set_state(LoopState::Running);
        } else {
            driver.tell(&format!("wait 0 {LONG} 0"));
            thread::sleep(Duration::from_millis(late));
            rig.serve(0, Ok(9));
            assert_eq!(driver.answer(), format!("ok {tag} OK 9"));
        }
    }
    let mut rig = Rig::bare(driver, 1, 4);
    driver.expect(&format!("submit {}", bare_read_tagged(3)), "ok 0");
    driver.tell(&format!("wait 0 {LONG} 0"));
    thread::sleep(Duration::from_millis(5));
    rig.serve(0, Ok(7));
    assert_eq!(driver.answer(), "ok 3 OK 512");
    driver.expect("reserve", "ok 0");
}

/// The host stores an outcome and STOPPED at almost the same time, while the device polls. The suite makes the
/// two stores itself.
pub(crate) fn an_outcome_before_the_end_is_seen(driver: &mut Driver) {
    let rig = Rig::headed(driver, 1);
    for lap in 0..3000_u32 {
        rig.memory.store(header_word::STATE, 1);
        driver.expect(&format!("submit {}", read_tagged(lap)), "ok 0");
        driver.tell(&format!("wait 0 {LONG} 0"));
        let until = Instant::now() + Duration::from_micros(u64::from(lap * 37 % 500));
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        rig.store_status(0, status::OK);
        rig.memory.store(header_word::STATE, 3 + lap % 2);
        assert_eq!(driver.answer(), format!("ok {lap} OK 512"));
    }
}

pub(crate) fn a_wait_ends_when_the_host_is_gone(driver: &mut Driver) {
    for gone in [3, 4, 5, 0x100, u32::MAX] {
        for while_waiting in [false, true] {
            let mut rig = Rig::headed(driver, 1);
            rig.host.set_state(LoopState::Running);
            driver.expect(&format!("submit {}", read_tagged(1)), "ok 0");
            assert_eq!(rig.claim().len(), 1);
            assert_eq!(rig.host.announce_claims(), 1);
            if while_waiting {
                driver.tell(&format!("wait 0 {LONG} 0"));
                thread::sleep(Duration::from_millis(5));
                rig.memory.store(header_word::STATE, gone);
            } else {
                rig.memory.store(header_word::STATE, gone);
                driver.tell(&format!("wait 0 {LONG} 0"));
            }
            assert_eq!(driver.answer(), "err HostGone", "state {gone:#x}");
            assert_eq!(
                rig.status(0),
                status::CLAIMED,
                "the slot still holds the request"
            );
            driver.expect("reserve", "err QueueFull");
            driver.expect("poll 0", "ok pending");
            rig.host.complete(0, Ok(3)).expect("owed");
            driver.expect(&format!("wait 0 {LONG} 0"), "ok 1 OK 3");
            driver.expect("reserve", "ok 0");
        }
    }
}

/// Runs `during` while another thread moves the host's heartbeat.
fn beating<T>(rig: &Rig, during: impl FnOnce() -> T) -> T {
    let (memory, done) = (rig.memory.clone(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut beat = memory.load(header_word::HEARTBEAT);
            while !done.load(Ordering::Relaxed) {
                beat = beat.wrapping_add(1);
                memory.store(header_word::HEARTBEAT, beat);
                thread::sleep(Duration::from_millis(2));
            }
        });
        let result = during();
        done.store(true, Ordering::Relaxed);
        result
    })
}

pub(crate) fn a_wait_ends_at_its_limit(driver: &mut Driver) {
    let mut rig = Rig::headed(driver, 1);
    driver.expect(&format!("submit {}", read_tagged(1)), "ok 0");
    for state in [LoopState::Starting, LoopState::Running, LoopState::Draining] {
        rig.host.set_state(state);
        for limit in [0, 1000, 50_000_u64] {
            let start = Instant::now();
            driver.expect(&format!("wait 0 {limit} 0"), "err TimedOut still");
            assert!(start.elapsed() >= Duration::from_micros(limit), "too early");
        }
    }
    let answer = beating(&rig, || driver.ask("wait 0 200000 0"));
    assert_eq!(answer, "err TimedOut alive");
    driver.expect("poll 0", "ok pending");
    rig.serve(0, Ok(3));
    driver.expect("wait 0 0 0", "ok 1 OK 3");

    let _bare = Rig::bare(driver, 1, 0);
    driver.expect(&format!("submit {}", bare_read_tagged(1)), "ok 0");
    driver.expect("wait 0 20000 0", "err TimedOut still");
}

pub(crate) fn a_wait_ends_when_the_heartbeat_stands_still(driver: &mut Driver) {
    let mut rig = Rig::headed(driver, 1);
    rig.host.set_state(LoopState::Running);
    driver.expect(&format!("submit {}", read_tagged(1)), "ok 0");
    for still in [1, 1000, 50_000_u64] {
        let start = Instant::now();
        driver.expect(&format!("wait 0 {LONG} {still}"), "err HostGone");
        assert!(start.elapsed() >= Duration::from_micros(still), "too early");
    }
    // One that beats lives, however long the wait; one that has beaten and then died does not.
    let answer = beating(&rig, || driver.ask("wait 0 300000 30000000"));
    assert_eq!(answer, "err TimedOut alive");
    beating(&rig, || {
        driver.tell(&format!("wait 0 {LONG} 300000"));
        thread::sleep(Duration::from_millis(50));
    });
    assert_eq!(driver.answer(), "err HostGone");
    // The outcome comes first.
    rig.serve(0, Ok(3));
    driver.expect("wait 0 0 1", "ok 1 OK 3");

    let _bare = Rig::bare(driver, 1, 0);
    driver.expect(&format!("submit {}", bare_read_tagged(1)), "ok 0");
    driver.expect("wait 0 20000 1", "err TimedOut still");
}
