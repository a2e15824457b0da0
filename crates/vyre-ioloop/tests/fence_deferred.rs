//! A device publishes a FENCE or a SYNC for every sweep that its last one causes. The number of sweeps
//! of a pass stays bounded, every fence completes, and the order holds.

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::faulty::{Faulty, Meanwhile, Orders};
use common::*;
use vyre_ioloop::Engine;
use vyre_ioq::{DeviceQueue, Errno, Op, Request};
use vyre_uring::SimTransport;

const SLOTS: u32 = 256;

/// Pairs of a write and a fence or a SYNC behind it.
const PAIRS: u32 = SLOTS / 2;

/// Claimed by the first pass: one pair for each of its two sweeps. Later passes have one sweep.
const FIRST_PASS: u32 = 4;

struct Endless {
    engine: Engine<Faulty>,
    slots: Slots,
    orders: Arc<Orders>,
    _device: DeviceQueue,
}

/// The kind of the request behind a write.
type Kind = fn(pair: u32) -> Op;

fn mixed(pair: u32) -> Op {
    if pair.is_multiple_of(3) {
        Op::Sync
    } else {
        Op::Fence
    }
}

/// A queue whose device publishes a pair and, whenever a write is pushed, another pair in the slots
/// before it, where only a further sweep finds it.
fn endless(sim: SimTransport, kind: Kind) -> Endless {
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
            memory.publish(2 * left, &Request::write(file, 0, 8).from_buffer(pool, 0));
            let ordered = match kind(left) {
                Op::Sync => Request::sync(file),
                _ => Request::fence(),
            };
            memory.publish(2 * left + 1, &ordered);
        }
    };
    publish();
    let happens = move |op| {
        if matches!(op, vyre_uring::Operation::Write { .. }) {
            publish();
        }
    };
    *orders.meanwhile.lock().unwrap() = Meanwhile(Some(Box::new(happens)));
    Endless {
        engine,
        slots,
        orders,
        _device: device,
    }
}

impl Endless {
    fn pass(&mut self) -> u32 {
        self.engine.step().claimed
    }

    fn completed(&self) -> Vec<u32> {
        (0..SLOTS)
            .filter(|&slot| self.slots.outcome(slot).is_some())
            .collect()
    }

    /// Later pairs were published before earlier ones. Checks that everything that a fence or a SYNC
    /// waits for completed before it. Nothing waits for a fence, and no SYNC for another.
    fn check_order(&self, kind: Kind) {
        let completed = |slot: u32| self.slots.outcome(slot).is_some();
        let (mut writes, mut syncs) = (true, true);
        for pair in (0..PAIRS).rev() {
            writes &= completed(2 * pair);
            let is_fence = kind(pair) == Op::Fence;
            let may_go = writes && (syncs || !is_fence);
            assert!(may_go || !completed(2 * pair + 1), "pair {pair} overtook");
            syncs &= is_fence || completed(2 * pair + 1);
        }
    }

    fn check_end(&self, claimed: u32) {
        assert_eq!(self.engine.outstanding(), 0);
        let counters = self.engine.queue_counters(0).unwrap();
        assert_eq!(counters.claimed, u64::from(claimed));
        assert_eq!(counters.succeeded + counters.failed, u64::from(claimed));
    }
}

fn stuck() -> SimTransport {
    SimTransport::builder(1).capacity(512).stuck(1.0).build()
}

/// Runs to the end. Returns how many fences and SYNCs completed while the device still published.
fn run(kind: Kind) -> usize {
    let sim = SimTransport::builder(1).capacity(512).max_latency(9);
    let mut endless = endless(sim.reorder(true).build(), kind);
    assert_eq!(endless.pass(), FIRST_PASS);
    let mut left = SLOTS - FIRST_PASS;
    while left > 0 {
        let claimed = endless.pass();
        // One pair for each sweep, and two sweeps if the pass before deferred nothing.
        assert!(
            (2..=FIRST_PASS).contains(&claimed),
            "{claimed} with {left} left"
        );
        endless.check_order(kind);
        left -= claimed;
    }
    let ordered = endless.completed().into_iter().filter(|slot| slot % 2 == 1);
    let early = ordered.count();
    let mut passes = 0;
    while endless.engine.outstanding() > 0 {
        assert_eq!(endless.pass(), 0);
        endless.check_order(kind);
        passes += 1;
        assert!(passes < 10_000, "without an outcome");
    }
    assert!((0..SLOTS).all(|slot| endless.slots.outcome(slot).unwrap().is_ok()));
    endless.check_end(SLOTS);
    early
}

/// Rules: ABI-6.9, SEC-12.
#[test]
fn a_pass_sweeps_at_most_twice_and_the_next_pass_continues() {
    assert!(run(mixed) > 0);
}

/// A fence that is claimed late does not delay earlier ones.
///
/// Rule: ABI-6.18.
#[test]
fn fences_complete_while_the_device_publishes_more() {
    assert!(run(|_| Op::Fence) > PAIRS as usize / 2);
}

/// An earlier fence may have to wait for a SYNC that is claimed late, so they are deferred together.
/// They complete once the device has run out of slots.
///
/// Rule: ABI-6.18.
#[test]
fn syncs_complete_after_the_device_has_stopped_publishing() {
    assert_eq!(run(|_| Op::Sync), 0);
}

/// A queue whose first pass sweeps twice.
struct TwoSweeps {
    engine: Engine<Faulty>,
    slots: Slots,
    write: Request,
    _device: DeviceQueue,
}

/// `happens` gets the number of each write when it is pushed. The second write is pushed during the
/// second sweep, which has passed slot 100 and the rest of its group by then.
fn two_sweeps(mut happens: impl FnMut(u32, &Slots, &Request) + Send + 'static) -> TwoSweeps {
    let tables = Tables::new(4096, 4096);
    let write = Request::write(tables.file, 0, 8).from_buffer(tables.pool, 0);
    let (slots, host, device) = Slots::queue(SLOTS);
    slots.mark_all(SLOTS);
    let (faulty, orders) = Faulty::new(SimTransport::builder(1).build());
    let engine = tables.engine(faulty, vec![host]);
    slots.publish(130, &write);
    slots.publish(220, &Request::fence());
    let (memory, mut writes) = (slots.clone(), 0);
    let on_push = move |op| {
        if matches!(op, vyre_uring::Operation::Write { .. }) {
            writes += 1;
            match writes {
                // The first sweep has passed this slot, and the second finds it.
                1 => memory.publish(100, &write),
                _ => happens(writes, &memory, &write),
            }
        }
    };
    *orders.meanwhile.lock().unwrap() = Meanwhile(Some(Box::new(on_push)));
    TwoSweeps {
        engine,
        slots,
        write,
        _device: device,
    }
}

/// The second sweep claims a fence in `fence` after it has passed a write in `early` that was published
/// before. The fence must not complete before the write.
fn check_deferred_fence(early: u32, fence: u32) {
    let mut rig = two_sweeps(move |number, slots, write| {
        if number == 2 {
            slots.publish(early, write);
            slots.publish(fence, &Request::fence());
        }
    });
    let mut passes = 0;
    while rig.slots.outcome(fence).is_none() {
        let _ = rig.engine.step();
        passes += 1;
        assert!(passes < 10, "without an outcome");
    }
    let outcome = rig.slots.outcome(early);
    assert_eq!(
        outcome,
        Some(Ok(8)),
        "{early} came before the fence in {fence}"
    );
    assert!(passes > 1, "found by the second sweep of the first pass");
}

/// Rules: ABI-6.7, ABI-6.9.
#[test]
fn a_deferred_fence_waits_for_requests_that_the_second_sweep_had_passed() {
    // Both groups before that of the fence. The next sweep comes to the first of them even without the
    // fence.
    for early in [20, 70, 127] {
        check_deferred_fence(early, 200);
    }
}

/// The second sweep ends at the last fence of the first. The slots behind it were loaded before either fence was
/// published.
///
/// Rules: ABI-6.7, ABI-6.9.
#[test]
fn a_deferred_fence_waits_for_requests_behind_the_second_sweep() {
    for early in [220 + 1, 220 + 30, SLOTS - 1] {
        check_deferred_fence(early, 140);
    }
}

/// During that sweep, so that its lane can publish again before the one after.
///
/// Rule: ABI-6.18.
#[test]
fn a_deferred_fence_completes_during_the_next_sweep() {
    let (seen, seen_at_push) = std::sync::mpsc::channel();
    let mut rig = two_sweeps(move |number, slots, _| match number {
        2 => slots.publish(140, &Request::fence()),
        _ => seen.send(slots.outcome(140)).unwrap(),
    });
    let _ = rig.engine.step();
    assert_eq!(rig.slots.outcome(140), None, "not covered yet");
    rig.slots.publish(200, &rig.write);
    let _ = rig.engine.step();
    assert_eq!(seen_at_push.try_recv(), Ok(Some(Ok(0))));
}

/// The device stops publishing. Its last fences complete.
///
/// Rule: ABI-4.11.
#[test]
fn deferred_fences_complete_in_a_pass_that_claims_nothing() {
    let sim = SimTransport::builder(1).capacity(512).build();
    let mut endless = endless(sim, mixed);
    assert_eq!(endless.pass(), FIRST_PASS);
    endless.orders.meanwhile.lock().unwrap().0 = None;
    // The pair that was published during the last sweep.
    assert_eq!(endless.pass(), 2);
    for _ in 0..100 {
        assert_eq!(endless.pass(), 0);
    }
    endless.check_end(FIRST_PASS + 2);
}

/// Rule: ABI-4.11.
#[test]
fn a_stop_completes_deferred_fences_once() {
    let mut endless = endless(stuck(), mixed);
    assert_eq!(endless.pass(), FIRST_PASS);
    assert_eq!(endless.completed(), []);
    endless.engine.stop(LIMIT).unwrap();
    let completed = endless.completed();
    assert_eq!(completed.len() as u32, FIRST_PASS + 2);
    for slot in completed {
        assert_eq!(endless.slots.outcome(slot), Some(Err(Errno::ECANCELED)));
    }
    endless.check_end(FIRST_PASS + 2);
    // Nothing is deferred any more.
    for _ in 0..10 {
        let _ = endless.engine.step();
    }
    endless.check_end(FIRST_PASS + 2);
}

/// Rule: ABI-7.4.
#[test]
fn a_drain_finishes_deferred_fences() {
    let sim = SimTransport::builder(1).capacity(512).max_latency(3);
    let mut endless = endless(sim.build(), mixed);
    assert_eq!(endless.pass(), FIRST_PASS);
    endless.orders.meanwhile.lock().unwrap().0 = None;
    endless.engine.drain();
    for _ in 0..1_000 {
        let _ = endless.engine.step();
    }
    let first = SLOTS - FIRST_PASS;
    for slot in first..SLOTS {
        let outcome = endless.slots.outcome(slot);
        assert!(matches!(outcome, Some(Ok(_))), "slot {slot}: {outcome:?}");
    }
    for late in first - 2..first {
        let outcome = endless.slots.outcome(late);
        assert_eq!(outcome, Some(Err(Errno::ECANCELED)));
    }
    endless.check_end(FIRST_PASS + 2);
}

/// The engine panics in the next pass, while fences are deferred.
///
/// Rule: ABI-4.11.
#[test]
fn a_panic_leaves_no_deferred_fence_without_an_outcome() {
    let mut endless = endless(stuck(), mixed);
    assert_eq!(endless.pass(), FIRST_PASS);
    endless
        .orders
        .panic_in_submit
        .store(true, Ordering::Relaxed);
    let mut engine = endless.engine;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _ = engine.step();
        unreachable!("it panics, and drops the engine on its way");
    }));
    assert!(panicked.is_err());
    for slot in SLOTS - (FIRST_PASS + 2)..SLOTS {
        assert!(endless.slots.outcome(slot).is_some(), "slot {slot}");
    }
}
