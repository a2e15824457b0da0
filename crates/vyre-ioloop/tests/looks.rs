//! A device that publishes a fence for every look that its last one causes. No pass looks for ever,
//! and no fence loses its order by that.

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::faulty::{Faulty, Meanwhile, Orders};
use common::*;
use vyre_ioloop::Engine;
use vyre_ioq::{DeviceQueue, Errno, FileHandle, Request};
use vyre_uring::SimTransport;

const SLOTS: u32 = 256;
/// Pairs of a write, and of a fence or a sync behind it.
const PAIRS: u32 = SLOTS / 2;
/// Claimed by one pass: a pair for each of its looks.
const A_PASS: u32 = 8;

struct Chase {
    engine: Engine<Faulty>,
    slots: Slots,
    orders: Arc<Orders>,
    _device: DeviceQueue,
}

/// The request behind a write: every third is a SYNC.
fn ordered(pair: u32, file: FileHandle) -> Request {
    match pair % 3 {
        0 => Request::sync(file),
        _ => Request::fence(),
    }
}

/// A queue whose device publishes a pair, and with each write that is taken in another one, in the
/// slots before it: where only a further look comes by.
fn chase(sim: SimTransport) -> Chase {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (slots, host, device) = Slots::queue(SLOTS);
    slots.mark_all(SLOTS);
    let (faulty, orders) = Faulty::new(sim);
    let engine = tables.engine(faulty, vec![host]);
    let memory = slots.clone();
    let mut left = PAIRS;
    let mut publish = move || {
        if left > 0 {
            left -= 1;
            memory.publish(2 * left, &Request::write(file, 0, 8).from(pool, 0));
            memory.publish(2 * left + 1, &ordered(left, file));
        }
    };
    publish();
    let mut done = 0;
    let happens = move || {
        done += 1;
        // Not for the flush of a SYNC, nor for what is pushed again.
        if done < PAIRS {
            publish();
        }
    };
    *orders.meanwhile.lock().unwrap() = Meanwhile(Some(Box::new(happens)));
    Chase {
        engine,
        slots,
        orders,
        _device: device,
    }
}

impl Chase {
    fn pass(&mut self) -> u32 {
        self.engine.step().claimed
    }

    fn answered(&self) -> Vec<u32> {
        (0..SLOTS)
            .filter(|&slot| self.slots.outcome(slot).is_some())
            .collect()
    }

    fn check_end(&self, claimed: u32) {
        assert_eq!(self.engine.in_flight(), 0);
        let counters = self.engine.queue_counters(0).unwrap();
        assert_eq!(counters.claimed, u64::from(claimed));
        assert_eq!(counters.succeeded + counters.failed, u64::from(claimed));
    }
}

fn stuck() -> SimTransport {
    SimTransport::builder(1).capacity(512).stuck(1.0).build()
}

#[test]
fn a_pass_looks_a_few_times_and_the_next_one_goes_on() {
    let sim = SimTransport::builder(1).capacity(512).max_latency(9);
    let mut chase = chase(sim.reorder(true).build());
    for pass in 1..=PAIRS / 4 {
        assert_eq!(chase.pass(), A_PASS, "pass {pass}");
        let ordered = |slot: &u32| slot % 2 == 1;
        let early = chase.answered().into_iter().find(ordered);
        assert_eq!(early, None, "before what comes before it is known");
    }
    // Every fence of the same pass waits for every write.
    let mut passes = 0;
    while chase.engine.in_flight() > 0 {
        assert_eq!(chase.pass(), 0);
        let answered = chase.answered();
        let fence = |&slot: &u32| slot % 2 == 1 && (slot / 2) % 3 != 0;
        if answered.iter().any(fence) {
            let writes = answered.iter().filter(|&slot| slot % 2 == 0);
            assert_eq!(writes.count() as u32, PAIRS);
        }
        passes += 1;
        assert!(passes < 10_000, "unanswered");
    }
    assert!((0..SLOTS).all(|slot| chase.slots.outcome(slot).unwrap().is_ok()));
    chase.check_end(SLOTS);
}

/// A device that gives up does not leave its last fences waiting.
#[test]
fn kept_fences_are_answered_by_a_pass_that_claims_nothing() {
    let sim = SimTransport::builder(1).capacity(512).build();
    let mut chase = chase(sim);
    assert_eq!(chase.pass(), A_PASS);
    chase.orders.meanwhile.lock().unwrap().0 = None;
    // The pair that the last look let happen.
    assert_eq!(chase.pass(), 2);
    for _ in 0..100 {
        assert_eq!(chase.pass(), 0);
    }
    chase.check_end(A_PASS + 2);
}

#[test]
fn a_stop_answers_kept_fences_once() {
    let mut chase = chase(stuck());
    assert_eq!(chase.pass(), A_PASS);
    assert_eq!(chase.answered(), []);
    chase.engine.stop(LIMIT).unwrap();
    let answered = chase.answered();
    assert_eq!(answered.len() as u32, A_PASS + 2);
    for slot in answered {
        assert_eq!(chase.slots.outcome(slot), Some(Err(Errno::ECANCELED)));
    }
    chase.check_end(A_PASS + 2);
    // What was kept is not there any more.
    for _ in 0..10 {
        let _ = chase.engine.step();
    }
    chase.check_end(A_PASS + 2);
}

#[test]
fn a_drain_finishes_kept_fences() {
    let sim = SimTransport::builder(1).capacity(512).max_latency(3);
    let mut chase = chase(sim.build());
    assert_eq!(chase.pass(), A_PASS);
    chase.orders.meanwhile.lock().unwrap().0 = None;
    chase.engine.drain();
    for _ in 0..1_000 {
        let _ = chase.engine.step();
    }
    let first = SLOTS - A_PASS;
    for slot in first..SLOTS {
        let outcome = chase.slots.outcome(slot);
        assert!(matches!(outcome, Some(Ok(_))), "slot {slot}: {outcome:?}");
    }
    for late in first - 2..first {
        let outcome = chase.slots.outcome(late);
        assert_eq!(outcome, Some(Err(Errno::ECANCELED)));
    }
    chase.check_end(A_PASS + 2);
}

/// The engine dies in the pass after, with fences in its hands.
#[test]
fn a_panic_leaves_no_kept_fence_unanswered() {
    let mut chase = chase(stuck());
    assert_eq!(chase.pass(), A_PASS);
    chase.orders.panic_in_submit.store(true, Ordering::Relaxed);
    let mut engine = chase.engine;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _ = engine.step();
        unreachable!("it panics, and drops the engine on its way");
    }));
    assert!(panicked.is_err());
    for slot in SLOTS - 2 * A_PASS..SLOTS {
        assert!(chase.slots.outcome(slot).is_some(), "slot {slot}");
    }
}
