//! Tests of the share that one queue may take of a loop and of the kernel's workers.

use std::io::Write;
use std::time::Duration;

use vyre_faults::rig::{Parts, ask, beats, outcome_of, submit};
use vyre_faults::{Ext4, Need, Scene, Test, eventually, tests};
use vyre_ioq::Request;
use vyre_uring::Buffer;

use crate::hung_requests::{COUNTS, OTHERS, Two, files};

pub(crate) const TESTS: &[Test] = tests![
    hung_syncs_delay_no_other_queue: [Need::Fuse],
    frozen_writes_and_empty_pipes_delay_no_other_queue: [Need::Ext4(Ext4::at("ext4"))],
    reads_of_empty_pipes_delay_no_other_queue: [],
    large_cached_reads_delay_no_other_queue: [],
];

/// Time after which a write counts as one that waits for another.
const COLLISION: Duration = Duration::from_secs(1);
/// Minimum number of requests of one queue that the kernel has at once.
const IN_FLIGHT: usize = 32;

/// Rule: SEC-12.
fn hung_syncs_delay_no_other_queue(scene: &Scene) {
    for count in COUNTS {
        let fuse = scene.fuse();
        fuse.hold();
        let mut parts = Parts::new(1 << 20);
        let files = files(&fuse, &mut parts, "hang-fsync", count);
        let two = Two::new(scene, parts);
        let sync = |&file| submit(&two.hung, Request::sync(file));
        let tickets: Vec<_> = files.iter().map(sync).collect();
        fuse.wait_for_hanging(count.min(IN_FLIGHT));

        two.others_are_served();
        assert!(tickets.iter().all(|ticket| two.hung.poll(ticket).is_none()));
        fuse.release();
        for ticket in tickets {
            assert_eq!(outcome_of(&two.hung, ticket), Ok(0));
        }
        two.io.stop().unwrap();
    }
}

/// The kernel serialises buffered writes for which it chooses the same worker, by a hash of the
/// file, so a write to another file may wait. How often is printed, not asserted.
///
/// Rules: SEC-12, SEC-13.
fn frozen_writes_and_empty_pipes_delay_no_other_queue(scene: &Scene) {
    const WRITES: usize = 64;
    const PROBES: usize = 16;
    // The queue of the other device has room for more.
    const MOST_WAITING: usize = 6;
    let mut parts = Parts::new(1 << 20);
    let frozen: Vec<_> = (0..WRITES)
        .map(|index| parts.file(scene.create("ext4", &format!("frozen-{index}"))))
        .collect();
    let (empty, writer) = parts.pipe();
    let probes: Vec<_> = (0..PROBES)
        .map(|_| parts.file(scene.healthy(4096)))
        .collect();
    let two = Two::new(scene, parts);
    let guard = scene.freeze("ext4");
    let write = |&file| {
        submit(
            &two.hung,
            Request::write(file, 0, 4096).from_buffer(two.pool, 0),
        )
    };
    let writes: Vec<_> = frozen.iter().map(write).collect();
    let read = || {
        submit(
            &two.hung,
            Request::read(empty, 0, 4).into_buffer(two.pool, 4096),
        )
    };
    let reads: Vec<_> = (0..300).map(|_| read()).collect();
    eventually("the claims", || {
        let counters = two.io.queue_counters(0).unwrap();
        counters.claimed == (writes.len() + reads.len()) as u64
    });
    guard.wait_for_writes(1);

    two.other_reads_are_served();
    assert_eq!(ask(&two.other, Request::sync(two.healthy)), Ok(0));
    assert_eq!(
        ask(&two.other, Request::prefetch(two.healthy, 0, 8192)),
        Ok(0)
    );
    let (mut waiting, mut asked) = (Vec::new(), 0);
    for &probe in &probes {
        let write = Request::write(probe, 0, 512).from_buffer(two.pool, OTHERS);
        let ticket = submit(&two.other, write);
        asked += 1;
        match two.other.wait_for(ticket, COLLISION) {
            Ok(outcome) => assert_eq!(outcome.result, Ok(512)),
            Err(error) => waiting.push(error.into_ticket()),
        }
        if waiting.len() == MOST_WAITING {
            break;
        }
    }
    println!(
        "beside {WRITES} frozen writes {} of {asked} writes waited",
        waiting.len()
    );
    let read = Request::read(two.healthy, 0, 4096).into_buffer(two.pool, OTHERS);
    assert_eq!(ask(&two.other, read), Ok(4096));
    beats(&two.other);
    assert!(writes.iter().all(|ticket| two.hung.poll(ticket).is_none()));
    drop(guard);
    for ticket in writes {
        assert_eq!(outcome_of(&two.hung, ticket), Ok(4096));
    }
    for ticket in waiting {
        assert_eq!(outcome_of(&two.other, ticket), Ok(512));
    }
    drop(writer);
    for ticket in reads {
        assert_eq!(outcome_of(&two.hung, ticket), Ok(0));
    }
    two.io.stop().unwrap();
}

/// Rule: SEC-13.
fn reads_of_empty_pipes_delay_no_other_queue(scene: &Scene) {
    let mut parts = Parts::new(1 << 20);
    let (empty, writer) = parts.pipe();
    let two = Two::new(scene, parts);
    let read = || {
        submit(
            &two.hung,
            Request::read(empty, 0, 4).into_buffer(two.pool, 0),
        )
    };
    let reads: Vec<_> = (0..300).map(|_| read()).collect();
    eventually("the claims", || {
        two.io.queue_counters(0).unwrap().claimed == 300
    });
    two.others_are_served();
    assert!(reads.iter().all(|ticket| two.hung.poll(ticket).is_none()));
    drop(writer);
    for ticket in reads {
        assert_eq!(outcome_of(&two.hung, ticket), Ok(0));
    }
    two.io.stop().unwrap();
}

/// Reads from the page cache are copied when they are submitted. The test asserts an order: the
/// other device has its outcomes while most of the large reads are still pending.
///
/// Rule: SEC-12.
fn large_cached_reads_delay_no_other_queue(scene: &Scene) {
    const LEN: usize = 128 << 20;
    let mut parts = Parts::new(1 << 20);
    let mut large = scene.healthy(0);
    for _ in 0..LEN >> 20 {
        large.write_all(&[7; 1 << 20]).unwrap();
    }
    let large = parts.file(large);
    let sink = Buffer::anonymous(LEN).unwrap();
    let sink = parts.buffers.insert(sink).unwrap();
    let two = Two::new(scene, parts);
    let read = |_| {
        submit(
            &two.hung,
            Request::read(large, 0, LEN as u32).into_buffer(sink, 0),
        )
    };
    let reads: Vec<_> = (0..64).map(read).collect();
    two.other_reads_are_served();
    let left = reads
        .iter()
        .filter(|read| two.hung.poll(read).is_none())
        .count();
    assert!(left > 0, "all were served first");
    for ticket in reads {
        assert_eq!(outcome_of(&two.hung, ticket), Ok(LEN as u32));
    }
    two.io.stop().unwrap();
}
