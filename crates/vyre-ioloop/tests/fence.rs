//! A FENCE completes after every request that was published before it, and delays none that came later.

mod common;

use std::io::Write;
use std::thread;
use std::time::Duration;

use common::*;
use vyre_ioq::abi::MAX_SLOTS;
use vyre_ioq::{Errno, Request};
use vyre_uring::SimTransport;

/// Rules: ABI-6.7, ABI-6.16.
#[test]
fn a_fence_completes_when_there_is_nothing_to_wait_for() {
    let mut rig = Tables::new(16, 64).on_transport(8, 4);
    assert_eq!(rig.run(Request::fence().with_tag(3)), Ok(0));
}

/// Rule: ABI-6.7.
#[test]
fn a_fence_in_a_lower_slot_waits_for_requests_in_higher_ones() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let pool = tables.pool;
    let (slots, host, _device) = Slots::queue(64);
    let mut engine = tables.engine(transport(8), vec![host]);
    slots.publish(63, &Request::read(pipe, 0, 4).into_buffer(pool, 0));
    slots.publish(0, &Request::fence());
    linger(&mut engine);
    assert_eq!(slots.outcome(0), None, "the read is not done");
    writer.write_all(b"data").unwrap();
    linger(&mut engine);
    assert_eq!(slots.outcome(63), Some(Ok(4)));
    assert_eq!(slots.outcome(0), Some(Ok(0)));
}

/// Rule: ABI-6.7.
#[test]
fn a_fence_in_a_higher_slot_waits_for_requests_below() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let pool = tables.pool;
    let (slots, host, _device) = Slots::queue(64);
    let mut engine = tables.engine(transport(8), vec![host]);
    slots.publish(0, &Request::read(pipe, 0, 4).into_buffer(pool, 0));
    slots.publish(63, &Request::fence());
    linger(&mut engine);
    assert_eq!(slots.outcome(63), None, "the read is not done");
    writer.write_all(b"data").unwrap();
    linger(&mut engine);
    assert_eq!(slots.outcome(0), Some(Ok(4)));
    assert_eq!(slots.outcome(63), Some(Ok(0)));
}

/// Rule: ABI-6.8.
#[test]
fn a_fence_does_not_wait_for_later_requests() {
    let mut tables = Tables::new(4096, 4096);
    let (early, mut early_end) = tables.add_pipe();
    let (late, _late_end) = tables.add_pipe();
    let (file, pool) = (tables.file, tables.pool);
    let mut rig = tables.on_transport(8, 64);
    let before = rig.submit(Request::read(early, 0, 4).into_buffer(pool, 0));
    let fence = rig.submit(Request::fence());
    rig.linger();
    let after = rig.submit(Request::read(late, 0, 4).into_buffer(pool, 8));
    let meanwhile = rig.submit(Request::read(file, 0, 4).into_buffer(pool, 16));
    assert_eq!(rig.wait(meanwhile).result, Ok(4), "served meanwhile");
    assert!(rig.pending(&before) && rig.pending(&fence));
    early_end.write_all(b"data").unwrap();
    assert_eq!(rig.wait(before).result, Ok(4));
    assert_eq!(rig.wait(fence).result, Ok(0));
    assert!(rig.pending(&after), "nothing was written to its pipe");
}

/// Rule: ABI-6.10.
#[test]
fn a_later_fence_waits_for_everything_that_an_earlier_one_waits_for() {
    let mut tables = Tables::new(4096, 4096);
    let (first_pipe, mut first_end) = tables.add_pipe();
    let (second_pipe, mut second_end) = tables.add_pipe();
    let pool = tables.pool;
    let mut rig = tables.on_transport(8, 64);
    let first = rig.submit(Request::read(first_pipe, 0, 1).into_buffer(pool, 0));
    let first_fence = rig.submit(Request::fence());
    rig.linger();
    let second = rig.submit(Request::read(second_pipe, 0, 1).into_buffer(pool, 1));
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

/// Rule: ABI-6.7.
#[test]
fn a_fence_waits_for_requests_that_fail() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let pool = tables.pool;
    let mut rig = tables.on_transport(8, 64);
    let mut tickets = vec![
        rig.submit(Request::read(pipe, 0, 1).into_buffer(pool, 0)),
        rig.submit(Request::read(pipe, 0, 1).into_buffer(pool, 1 << 40)),
    ];
    tickets.extend((0..5).map(|_| rig.submit(Request::fence())));
    rig.linger();
    assert_eq!(tickets.iter().filter(|t| rig.pending(t)).count(), 6);
    writer.write_all(b"x").unwrap();
    let results: Vec<_> = rig.wait_all(tickets).iter().map(|o| o.result).collect();
    assert_eq!(results[..2], [Ok(1), Err(Errno::ERANGE)]);
    assert_eq!(results[2..], [Ok(0); 5]);
}

/// The device fills the largest queue with fences.
///
/// Rule: SEC-5.
#[test]
fn a_queue_full_of_fences_completes_on_a_small_stack() {
    let serve = || {
        let mut rig = Tables::new(64, 4096).on_transport(8, MAX_SLOTS);
        let tickets: Vec<_> = (0..MAX_SLOTS)
            .map(|_| rig.submit(Request::fence()))
            .collect();
        let _ = rig.engine.step();
        assert!(rig.wait_all(tickets).iter().all(|o| o.result == Ok(0)));
    };
    let small = thread::Builder::new().stack_size(256 << 10);
    small.spawn(serve).unwrap().join().unwrap();
}

/// Fences time out behind a read that never ends.
///
/// Rule: SEC-11.
#[test]
fn fences_that_time_out_leave_no_memory_behind() {
    let mut tables = Tables::new(64, 4096);
    let (pipe, _writer) = tables.add_pipe();
    let pool = tables.pool;
    let mut rig = tables.on_sim(SimTransport::builder(1).stuck(1.0).build(), 8);
    // A read is published after each fence, so that the epoch of the fence is not the last one.
    let _for_ever = rig.submit(Request::read(pipe, 0, 1).into_buffer(pool, 0));
    let before = format!("{:?}", rig.engine).len();
    for _ in 0..500 {
        let fence = rig.submit(Request::fence().with_deadline(1));
        let _ = rig.engine.step();
        let read = rig.submit(
            Request::read(pipe, 0, 1)
                .into_buffer(pool, 0)
                .with_deadline(1),
        );
        let _ = rig.engine.step();
        assert_eq!(rig.wait(fence).result, Err(Errno::ETIMEDOUT));
        assert_eq!(rig.wait(read).result, Err(Errno::ETIMEDOUT));
    }
    // The length of the engine's printed state measures what it holds.
    let after = format!("{:?}", rig.engine).len();
    assert!(after < before + 2000, "{before} characters became {after}");
}

/// A request that completes at once does not release a fence while others are in flight.
///
/// Rule: ABI-6.7.
#[test]
fn a_fence_waits_for_its_whole_pass_when_the_first_request_completes_at_once() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, _writer) = tables.add_pipe();
    let (file, pool) = (tables.file, tables.pool);
    let (slots, host, _device) = Slots::queue(64);
    let mut engine = tables.engine(transport(8), vec![host]);
    slots.publish(1, &Request::read(file, 0, 0).into_buffer(pool, 0));
    slots.publish(2, &Request::read(pipe, 0, 4).into_buffer(pool, 0));
    slots.publish(0, &Request::fence());
    linger(&mut engine);
    assert_eq!(slots.outcome(1), Some(Ok(0)));
    assert_eq!(slots.outcome(0), None, "the second read is not done");
}

/// Rule: ABI-6.7.
#[test]
fn a_fence_behind_63_reads_completes_after_all_of_them() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let pool = tables.pool;
    let mut rig = tables.on_transport(64, 64);
    let reads: Vec<_> = (0..63)
        .map(|n| rig.submit(Request::read(pipe, 0, 1).into_buffer(pool, n)))
        .collect();
    let fence = rig.submit(Request::fence());
    for done in 0..63 {
        rig.engine.wait(Duration::from_micros(10));
        let _ = rig.engine.step();
        assert!(rig.pending(&fence), "with {done} of 63 reads done");
        writer.write_all(b"x").unwrap();
        let out = |rig: &Rig<_>| reads.iter().filter(|read| rig.pending(read)).count();
        while out(&rig) > 62 - done {
            rig.engine.wait(Duration::from_millis(1));
            let _ = rig.engine.step();
        }
    }
    assert_eq!(rig.wait(fence).result, Ok(0));
    assert!(reads.iter().all(|read| !rig.pending(read)));
}
