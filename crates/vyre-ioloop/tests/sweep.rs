//! Tests of one pass, and of the slots that a sweep claims.

mod common;

use std::time::{Duration, Instant};

use common::*;
use vyre_ioloop::Engine;
use vyre_ioq::abi::{MAX_SLOTS, op, status, word};
use vyre_ioq::{Queue, Request};
use vyre_uring::SimTransport;

#[test]
fn one_pass_reaps_all_claims_all_and_submits_in_one_batch() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let sim = SimTransport::builder(0).build();
    let mut rig = tables.on_sim(sim, 64);
    let read = |n: u64| Request::read(file, n * 64, 64).into_buffer(pool, n * 64);
    let first: Vec<_> = (0..10).map(|n| rig.submit(read(n))).collect();
    let progress = rig.engine.step();
    assert_eq!(
        (progress.reaped, progress.claimed, progress.started),
        (0, 10, 10)
    );
    let second: Vec<_> = (10..15).map(|n| rig.submit(read(n))).collect();
    let progress = rig.engine.step();
    assert_eq!(
        (progress.reaped, progress.claimed, progress.started),
        (10, 5, 5)
    );
    assert!(first.iter().all(|ticket| !rig.pending(ticket)));
    let progress = rig.engine.step();
    assert_eq!(
        (progress.reaped, progress.claimed, progress.started),
        (5, 0, 0)
    );
    assert!(second.iter().all(|ticket| !rig.pending(ticket)));
    assert!(rig.engine.step().is_idle());
}

/// The pass is compared with one sweep of another queue of the same length. The minimum of many
/// measurements excludes what else runs on the machine.
#[test]
fn an_idle_pass_costs_one_sweep() {
    let queue = || Queue::anonymous(layout(MAX_SLOTS)).unwrap();
    let (mut bare, _) = queue();
    let (host, _device) = queue();
    let tables = Tables::new(16, 4096);
    let mut engine: Engine<_> = tables.engine(SimTransport::builder(0).build(), vec![host]);
    let time = |pass: &mut dyn FnMut()| {
        let started = Instant::now();
        (0..4).for_each(|_| pass());
        started.elapsed()
    };
    let (mut once, mut pass) = (Duration::MAX, Duration::MAX);
    for _ in 0..200 {
        once = once.min(time(&mut || {
            let claimed = bare.claim_published(0..u32::MAX, |_| {});
            assert_eq!(claimed, 0);
        }));
        pass = pass.min(time(&mut || assert!(engine.step().is_idle())));
    }
    assert!(
        pass < once * 8 / 5,
        "a pass takes {pass:?}, a sweep {once:?}"
    );
}

/// The host never stores PUBLISHED, and takes no other status for a request.
///
/// Rules: ABI-4.15, ABI-7.15.
#[test]
fn only_published_is_a_request_and_only_the_device_publishes() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (slots, host, _device) = Slots::bare(8);
    let mut engine = tables.engine(transport(8), vec![host]);
    let read = words_of(&Request::read(file, 0, 8).into_buffer(pool, 0));
    let others = (0..=64).filter(|&other| other != status::PUBLISHED);
    for other in others.chain([u32::MAX, 1 << 8, 1 << 31 | 1]) {
        for (number, &value) in read.iter().enumerate().take(8) {
            slots.store(2, number, value);
        }
        slots.store(2, word::STATUS, other);
        let _ = engine.step();
        assert_eq!(engine.outstanding(), 0, "status {other:#x}");
        assert_eq!(slots.load(2, word::STATUS), other, "left as it is");
    }
    for op in [op::READ, op::FENCE, 99] {
        let mut words = read;
        words[word::OP] = op;
        let claimed = |engine: &Engine<_>| engine.queue_counters(0).unwrap().claimed;
        let before = claimed(&engine);
        slots.publish_words(2, &words);
        while slots.outcome(2).is_none() {
            let _ = engine.step();
            assert_eq!(claimed(&engine), before + 1, "seen by now, and once");
        }
        for _ in 0..3 {
            let _ = engine.step();
            assert!(slots.outcome(2).is_some(), "an outcome stays");
            assert_eq!(claimed(&engine), before + 1);
        }
    }
}

/// Rule: ABI-6.18.
#[test]
fn more_requests_than_the_ring_has_entries_are_all_served() {
    let tables = Tables::new(4096, 4096);
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    let (host, device) = Queue::anonymous(layout(64)).unwrap();
    let io = tables
        .builder()
        .queue(host)
        .options(loop_options().ring_entries(8))
        .spawn()
        .unwrap();
    let tickets: Vec<_> = (0..64_u64)
        .map(|n| Request::read(file, n * 64, 64).into_buffer(pool, n * 64))
        .map(|request| device.submit(request).unwrap())
        .collect();
    for ticket in tickets {
        assert_eq!(outcome_of(&device, ticket), Ok(64));
    }
    assert_eq!(contents(&memory, 0, 4096), pattern(1, 4096));
    io.stop().unwrap();
}

/// Rule: ABI-6.18.
#[test]
fn the_largest_queue_is_served_through_a_small_ring() {
    let tables = Tables::new(1 << 16, 1 << 16);
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    let (host, device) = Queue::anonymous(layout(4096)).unwrap();
    let io = tables
        .builder()
        .queue(host)
        .options(loop_options().ring_entries(8))
        .spawn()
        .unwrap();
    let tickets: Vec<_> = (0..4096_u64)
        .map(|n| Request::read(file, n * 16, 16).into_buffer(pool, n * 16))
        .map(|request| device.submit(request).unwrap())
        .collect();
    for ticket in tickets {
        assert_eq!(outcome_of(&device, ticket), Ok(16));
    }
    assert_eq!(contents(&memory, 0, 1 << 16), pattern(1, 1 << 16));
    eventually("the counts", || {
        io.queue_counters(0).unwrap().succeeded == 4096
    });
    assert!(io.counters().waited > 0);
    io.stop().unwrap();
}
