//! Which requests a FENCE and a SYNC wait for, and which they do not.

mod common;

use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use common::faulty::Faulty;
use common::*;
use vyre_ioloop::Engine;
use vyre_ioq::abi::{GROUP_SLOTS, MAX_SLOTS, status, word};
use vyre_ioq::{Errno, Request};
use vyre_uring::{Operation, SimTransport, Transport};

/// Stores EMPTY, as a device that has taken its outcome.
fn recycle(slots: &Slots, slot: u32) {
    slots.store(slot, word::STATUS, status::EMPTY);
}

#[test]
fn a_fence_in_a_lower_slot_waits_for_requests_in_higher_ones() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let pool = tables.pool;
    let (slots, host, _device) = Slots::queue(64);
    let mut engine = tables.engine(ring(8), vec![host]);
    slots.publish(63, &Request::read(pipe, 0, 4).into(pool, 0));
    slots.publish(0, &Request::fence());
    linger(&mut engine);
    assert_eq!(slots.outcome(0), None, "the read is not done");
    writer.write_all(b"data").unwrap();
    linger(&mut engine);
    assert_eq!(slots.outcome(63), Some(Ok(4)));
    assert_eq!(slots.outcome(0), Some(Ok(0)));
}

#[test]
fn a_fence_in_a_higher_slot_waits_for_requests_below() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let pool = tables.pool;
    let (slots, host, _device) = Slots::queue(64);
    let mut engine = tables.engine(ring(8), vec![host]);
    slots.publish(0, &Request::read(pipe, 0, 4).into(pool, 0));
    slots.publish(63, &Request::fence());
    linger(&mut engine);
    assert_eq!(slots.outcome(63), None, "the read is not done");
    writer.write_all(b"data").unwrap();
    linger(&mut engine);
    assert_eq!(slots.outcome(0), Some(Ok(4)));
    assert_eq!(slots.outcome(63), Some(Ok(0)));
}

#[test]
fn a_fence_waits_for_nobody_who_came_later() {
    let mut tables = Tables::new(4096, 4096);
    let (early, mut early_end) = tables.add_pipe();
    let (late, _late_end) = tables.add_pipe();
    let (file, pool) = (tables.file, tables.pool);
    let mut rig = tables.on_ring(8, 64);
    let before = rig.submit(Request::read(early, 0, 4).into(pool, 0));
    let fence = rig.submit(Request::fence());
    rig.linger();
    let after = rig.submit(Request::read(late, 0, 4).into(pool, 8));
    let meanwhile = rig.submit(Request::read(file, 0, 4).into(pool, 16));
    assert_eq!(rig.wait(meanwhile).result, Ok(4), "served meanwhile");
    assert!(rig.pending(&before) && rig.pending(&fence));
    early_end.write_all(b"data").unwrap();
    assert_eq!(rig.wait(before).result, Ok(4));
    assert_eq!(rig.wait(fence).result, Ok(0));
    assert!(rig.pending(&after), "nothing was written to its pipe");
}

#[test]
fn a_fence_waits_for_what_an_earlier_one_waits_for() {
    let mut tables = Tables::new(4096, 4096);
    let (first_pipe, mut first_end) = tables.add_pipe();
    let (second_pipe, mut second_end) = tables.add_pipe();
    let pool = tables.pool;
    let mut rig = tables.on_ring(8, 64);
    let first = rig.submit(Request::read(first_pipe, 0, 1).into(pool, 0));
    let first_fence = rig.submit(Request::fence());
    rig.linger();
    let second = rig.submit(Request::read(second_pipe, 0, 1).into(pool, 1));
    let second_fence = rig.submit(Request::fence());
    second_end.write_all(b"2").unwrap();
    assert_eq!(rig.wait(second).result, Ok(1));
    rig.linger();
    assert!(rig.pending(&second_fence), "the first read is still out");
    first_end.write_all(b"1").unwrap();
    let all = rig.wait_all(vec![first, first_fence, second_fence]);
    assert_eq!(
        all.iter().map(|outcome| outcome.result).collect::<Vec<_>>(),
        [Ok(1), Ok(0), Ok(0)]
    );
}

#[test]
fn fences_cover_failed_requests_too() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let pool = tables.pool;
    let mut rig = tables.on_ring(8, 64);
    let mut tickets = vec![
        rig.submit(Request::read(pipe, 0, 1).into(pool, 0)),
        rig.submit(Request::read(pipe, 0, 1).into(pool, 1 << 40)),
    ];
    tickets.extend((0..5).map(|_| rig.submit(Request::fence())));
    rig.linger();
    assert_eq!(tickets.iter().filter(|t| rig.pending(t)).count(), 6);
    writer.write_all(b"x").unwrap();
    let results: Vec<_> = rig.wait_all(tickets).iter().map(|o| o.result).collect();
    assert_eq!(results[..2], [Ok(1), Err(Errno::ERANGE)]);
    assert_eq!(results[2..], [Ok(0); 5]);
}

/// A device that fills the largest queue with fences gets an answer for each, on a small stack.
#[test]
fn a_queue_full_of_fences_is_answered_on_a_small_stack() {
    let serve = || {
        let mut rig = Tables::new(64, 4096).on_ring(8, MAX_SLOTS);
        let tickets: Vec<_> = (0..MAX_SLOTS)
            .map(|_| rig.submit(Request::fence()))
            .collect();
        let _ = rig.engine.step();
        assert!(rig.wait_all(tickets).iter().all(|o| o.result == Ok(0)));
    };
    let small = thread::Builder::new().stack_size(256 << 10);
    small.spawn(serve).unwrap().join().unwrap();
}

/// Fences whose deadline passes behind a read that never ends leave nothing behind that grows.
#[test]
fn fences_that_time_out_use_up_no_memory() {
    let mut tables = Tables::new(64, 4096);
    let (pipe, _writer) = tables.add_pipe();
    let pool = tables.pool;
    let mut rig = tables.on_sim(SimTransport::builder(1).stuck(1.0).build(), 8);
    // A read at the back as well as at the front, so that no epoch is simply the last one.
    let _for_ever = rig.submit(Request::read(pipe, 0, 1).into(pool, 0));
    let before = format!("{:?}", rig.engine).len();
    for _ in 0..500 {
        let fence = rig.submit(Request::fence().deadline(1));
        let _ = rig.engine.step();
        let read = rig.submit(Request::read(pipe, 0, 1).into(pool, 0).deadline(1));
        let _ = rig.engine.step();
        assert_eq!(rig.wait(fence).result, Err(Errno::ETIMEDOUT));
        assert_eq!(rig.wait(read).result, Err(Errno::ETIMEDOUT));
    }
    // The engine's state, printed, is a measure of all that it holds.
    let after = format!("{:?}", rig.engine).len();
    assert!(after < before + 2000, "{before} characters became {after}");
}

/// Steps an engine while a device publishes into its slots, however the two interleave. One such
/// race at a time, lest they keep each other from the cores.
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

/// A request is published in the first slot when the sweep has passed it, and then a fence in the
/// last, which the sweep has yet to see: the second look finds the first.
#[test]
fn a_fence_waits_for_a_request_that_the_sweep_had_passed() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    check_passed_request(tables, &Request::read(file, 0, 64).into(pool, 0));
}

/// The same where the request in the passed slot is itself one that waits for others.
#[test]
fn a_fence_waits_for_a_sync_that_the_sweep_had_passed() {
    let tables = Tables::new(4096, 4096);
    let file = tables.file;
    check_passed_request(tables, &Request::sync(file));
}

fn check_passed_request(tables: Tables, request: &Request) {
    let (slots, host, _device) = Slots::queue(MAX_SLOTS);
    slots.mark_all(MAX_SLOTS);
    let last = MAX_SLOTS - 1;
    // Slow enough that a fence which did not wait is seen to come first.
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

/// As above, but the fence is itself found in a second look, which another brought about: it is
/// owed a look of its own.
#[test]
fn a_fence_found_in_a_second_look_waits_for_a_request_that_this_had_passed() {
    let tables = Tables::new(4096, 4096);
    let read = Request::read(tables.file, 0, 64).into(tables.pool, 0);
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

/// The fence is in the last slot of the first group, and the request in a group that was first used
/// after the sweep had asked which are: finding the fence, it asks again.
#[test]
fn a_fence_waits_for_a_request_in_a_group_that_was_not_used_before() {
    let mut jitter = 1_u32;
    for round in 0..if cfg!(miri) { 3 } else { 400 } {
        let tables = Tables::new(64, 4096);
        let read = Request::read(tables.file, 0, 64).into(tables.pool, 0);
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

/// One that is done as soon as it is claimed lets no fence through that others still hold back.
#[test]
fn a_fence_waits_for_all_of_its_pass_though_the_first_of_it_is_done_at_once() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, _writer) = tables.add_pipe();
    let (file, pool) = (tables.file, tables.pool);
    let (slots, host, _device) = Slots::queue(64);
    let mut engine = tables.engine(ring(8), vec![host]);
    slots.publish(1, &Request::read(file, 0, 0).into(pool, 0));
    slots.publish(2, &Request::read(pipe, 0, 4).into(pool, 0));
    slots.publish(0, &Request::fence());
    linger(&mut engine);
    assert_eq!(slots.outcome(1), Some(Ok(0)));
    assert_eq!(slots.outcome(0), None, "the second read is not done");
}

#[test]
fn a_sync_in_a_lower_slot_waits_for_a_write_in_a_higher_one() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (slots, host, _device) = Slots::queue(64);
    let (faulty, orders) = Faulty::new(SimTransport::builder(1).build());
    let mut engine = tables.engine(faulty, vec![host]);
    slots.publish(63, &Request::write(file, 0, 4).from(pool, 0));
    slots.publish(0, &Request::sync(file));
    linger(&mut engine);
    assert_eq!(slots.outcome(0), Some(Ok(0)));
    let pushed = orders.pushed.lock().unwrap();
    assert!(
        matches!(
            pushed[..],
            [Operation::Write { .. }, Operation::Sync { .. }]
        ),
        "{pushed:?}"
    );
}

#[test]
fn a_sync_waits_for_the_writes_to_its_file_and_for_no_others() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, writer) = std::io::pipe().unwrap();
    // A full pipe: a write to it waits until somebody reads.
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while (&writer).write(&[0; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    let full = tables
        .files
        .insert(
            writer,
            vyre_ioloop::Rights::WRITE | vyre_ioloop::Rights::SYNC,
        )
        .unwrap();
    let (file, pool) = (tables.file, tables.pool);
    let mut rig = tables.on_ring(8, 64);
    let blocked = rig.submit(Request::write(full, 0, 4096).from(pool, 0));
    let of_pipe = rig.submit(Request::sync(full));
    assert_eq!(rig.run(Request::write(file, 0, 10).from(pool, 0)), Ok(10));
    assert_eq!(
        rig.run(Request::sync(file)),
        Ok(0),
        "waits for no other file"
    );
    rig.linger();
    assert!(rig.pending(&blocked) && rig.pending(&of_pipe));
    let mut drained = vec![0; 1 << 20];
    let mut pipe = pipe;
    let got = pipe.read(&mut drained).unwrap();
    assert!(got > 0);
    assert_eq!(rig.wait(blocked).result, Ok(4096));
    // The kernel cannot sync a pipe, and says so.
    assert_eq!(rig.wait(of_pipe).result, Err(Errno::EINVAL));
}

#[test]
fn a_sync_behind_a_fence_covers_the_fenced_writes() {
    let tables = Tables::new(0, 1 << 16);
    let bytes = pattern(5, 1 << 16);
    tables.memory.write_at(0, &bytes).unwrap();
    let (file, pool, disk) = (tables.file, tables.pool, tables.disk.try_clone().unwrap());
    let mut rig = tables.on_ring(4, 64);
    let writes: Vec<_> = (0..16)
        .map(|n| rig.submit(Request::write(file, n << 12, 4096).from(pool, n << 12)))
        .collect();
    let fence = rig.submit(Request::fence());
    let sync = rig.submit(Request::sync(file));
    assert_eq!(rig.wait(sync).result, Ok(0));
    assert!(
        writes.iter().all(|write| !rig.pending(write)),
        "the sync waited for all writes"
    );
    assert_eq!(rig.wait(fence).result, Ok(0));
    assert!(rig.wait_all(writes).iter().all(|o| o.result == Ok(4096)));
    let mut written = vec![0; 1 << 16];
    disk.read_exact_at(&mut written, 0).unwrap();
    assert_eq!(written, bytes);
}
