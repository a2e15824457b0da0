//! A FENCE waits for requests that were published before it in slots which the sweep had passed.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use common::*;
use vyre_ioloop::Engine;
use vyre_ioq::abi::{GROUP_SLOTS, MAX_SLOTS, status, word};
use vyre_ioq::{Errno, Request};
use vyre_uring::{SimTransport, Transport};

/// Stores EMPTY, as a device that has taken the outcome.
fn recycle(slots: &Slots, slot: u32) {
    slots.store(slot, word::STATUS, status::EMPTY);
}

/// Steps an engine while a device publishes, in any interleaving. One race runs at a time, so that they
/// do not compete for cores.
fn race<T: Transport>(mut engine: Engine<T>, device: impl FnOnce() + Send, stopped: &AtomicBool) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        scope.spawn(|| {
            device();
            stopped.store(true, Ordering::Release);
        });
        while !stopped.load(Ordering::Acquire) {
            let _ = engine.step();
        }
    });
}

fn await_outcome(slots: &Slots, slot: u32) -> Result<u32, Errno> {
    loop {
        if let Some(outcome) = slots.outcome(slot) {
            return outcome;
        }
        thread::yield_now();
    }
}

/// The device publishes a request in the first slot, which the sweep may have passed, and then a fence
/// in the last, which it has not. The second sweep finds the request.
///
/// Rule: ABI-6.9.
#[test]
fn a_fence_waits_for_a_request_in_a_slot_that_the_sweep_had_passed() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    check_passed_request(tables, &Request::read(file, 0, 64).into_buffer(pool, 0));
}

/// The request in the passed slot is itself a barrier.
///
/// Rule: ABI-6.9.
#[test]
fn a_fence_waits_for_a_sync_in_a_slot_that_the_sweep_had_passed() {
    let tables = Tables::new(4096, 4096);
    let file = tables.file;
    check_passed_request(tables, &Request::sync(file));
}

fn check_passed_request(tables: Tables, request: &Request) {
    let (slots, host, _device) = Slots::queue(MAX_SLOTS);
    slots.mark_all(MAX_SLOTS);
    let last = MAX_SLOTS - 1;
    // Slow enough that a fence that does not wait is seen to complete first.
    let sim = SimTransport::builder(7).max_latency(4).build();
    let engine = tables.engine(sim, vec![host]);
    let stopped = AtomicBool::new(false);
    let device = || {
        let mut jitter = 1_u32;
        for round in 0..200 {
            jitter = jitter.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            for _ in 0..jitter >> 22 {
                std::hint::spin_loop();
            }
            slots.publish(0, request);
            slots.publish(last, &Request::fence());
            assert_eq!(await_outcome(&slots, last), Ok(0));
            let passed = slots.outcome(0).is_some();
            if !passed {
                stopped.store(true, Ordering::Release);
            }
            assert!(passed, "the fence of round {round} came before the request");
            recycle(&slots, 0);
            recycle(&slots, last);
        }
    };
    race(engine, device, &stopped);
}

/// Another fence causes the second sweep, which claims this one. It needs a sweep of its own.
///
/// Rule: ABI-6.9.
#[test]
fn a_fence_claimed_by_the_second_sweep_waits_for_a_request_that_this_had_passed() {
    let tables = Tables::new(4096, 4096);
    let read = Request::read(tables.file, 0, 64).into_buffer(tables.pool, 0);
    let (slots, host, _device) = Slots::queue(MAX_SLOTS);
    slots.mark_all(MAX_SLOTS);
    let engine = tables.engine(SimTransport::builder(7).build(), vec![host]);
    let stopped = AtomicBool::new(false);
    let mut jitter = 1_u32;
    let mut delay = |most: u32| {
        jitter = jitter.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        for _ in 0..(jitter >> 8) % most {
            std::hint::spin_loop();
        }
    };
    let device = || {
        for round in 0..200 {
            let (trigger, fence) = (MAX_SLOTS - 1, MAX_SLOTS - 2);
            delay(4_000);
            slots.publish(trigger, &Request::fence());
            delay(16_000);
            slots.publish(0, &read);
            slots.publish(fence, &Request::fence());
            assert_eq!(await_outcome(&slots, fence), Ok(0));
            let passed = slots.outcome(0).is_some();
            if !passed {
                stopped.store(true, Ordering::Release);
            }
            assert!(passed, "the fence of round {round} came before the request");
            assert_eq!(await_outcome(&slots, trigger), Ok(0));
            for slot in [0, fence, trigger] {
                recycle(&slots, slot);
            }
        }
    };
    race(engine, device, &stopped);
}

/// The fence is in the last slot of the first group. The request is in a group that was first used
/// after the sweep had loaded the IN_USE words. They are loaded again after the fence is found.
///
/// Rules: ABI-4.21, ABI-6.9.
#[test]
fn a_fence_waits_for_a_request_in_a_group_that_was_not_used_before() {
    let mut jitter = 1_u32;
    for round in 0..if cfg!(miri) { 3 } else { 400 } {
        let tables = Tables::new(64, 4096);
        let read = Request::read(tables.file, 0, 64).into_buffer(tables.pool, 0);
        let (slots, host, _device) = Slots::queue(2 * GROUP_SLOTS);
        let sim = SimTransport::builder(7).max_latency(4).build();
        let engine = tables.engine(sim, vec![host]);
        let stopped = AtomicBool::new(false);
        jitter = jitter.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let device = || {
            for _ in 0..jitter >> 21 {
                std::hint::spin_loop();
            }
            slots.publish(GROUP_SLOTS, &read);
            slots.publish(GROUP_SLOTS - 1, &Request::fence());
            assert_eq!(await_outcome(&slots, GROUP_SLOTS - 1), Ok(0));
            let passed = slots.outcome(GROUP_SLOTS).is_some();
            if !passed {
                stopped.store(true, Ordering::Release);
            }
            assert!(passed, "the fence of round {round} came before the request");
        };
        race(engine, device, &stopped);
    }
}
