//! Tests of device-mapper drives that fail or are slow.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;

use vyre_faults::rig::{Parts, ask, outcome_of, queue, submit};
use vyre_faults::{Mapper, Need, Scene, Test, tests};
use vyre_ioq::{Errno, Request};

use crate::hung_requests::Two;

pub(crate) const TESTS: &[Test] = tests![
    a_bad_sector_is_not_the_end_of_the_file: [Need::Mapper(Mapper::Error)],
    a_write_that_a_drive_lost_fails_every_later_sync: [Need::Mapper(Mapper::Error)],
    a_write_that_a_drive_refused_fails_every_later_sync: [Need::Mapper(Mapper::Flakey)],
    a_slow_drive_delays_no_other_queue: [Need::Mapper(Mapper::Delay)],
];

/// Offset from which the drive fails.
const BAD: u64 = Mapper::BAD_FROM;
const LEN: u32 = 64 << 10;

fn drive(scene: &Scene, flags: i32) -> File {
    let mut options = File::options();
    options.read(true).write(true).custom_flags(flags);
    options.open(scene.path("mapper")).unwrap()
}

/// Rule: ABI-6.5.
fn a_bad_sector_is_not_the_end_of_the_file(scene: &Scene) {
    for flags in [0, libc::O_DIRECT] {
        let mut parts = Parts::new(LEN as usize);
        let (file, pool) = (parts.file(drive(scene, flags)), parts.pool);
        let (host, device) = queue(4);
        let io = parts.builder().queue(host).spawn().unwrap();
        let read = |at| Request::read(file, at, LEN).into_buffer(pool, 0);
        assert_eq!(ask(&device, read(0).exact()), Ok(LEN));
        assert_eq!(ask(&device, read(BAD)), Err(Errno::EIO));
        assert_eq!(ask(&device, read(BAD).exact()), Err(Errno::EIO));
        let before = BAD - u64::from(LEN) / 2;
        assert_eq!(ask(&device, read(before).exact()), Err(Errno::EIO));
        // The bytes before the bad sector may count.
        let some = ask(&device, read(before));
        assert!(
            some == Err(Errno::EIO) || some.is_ok_and(|count| count <= LEN / 2),
            "{some:?}"
        );
        io.stop().unwrap();
    }
}

/// Asserts that a write to the page cache succeeds, and that no SYNC after its loss does.
fn check_lost_write(scene: &Scene, at: u64) {
    let mut parts = Parts::new(LEN as usize);
    let (file, pool) = (parts.file(drive(scene, 0)), parts.pool);
    let ((host0, one), (host1, two)) = (queue(4), queue(4));
    let io = parts.builder().queue(host0).queue(host1).spawn().unwrap();
    assert_eq!(
        ask(&one, Request::write(file, at, LEN).from_buffer(pool, 0)),
        Ok(LEN)
    );
    for device in [&one, &two, &one, &two] {
        let sync = ask(device, Request::sync(file));
        assert!(sync.is_err(), "{sync:?}");
        let durable = ask(
            device,
            Request::write(file, 0, LEN).from_buffer(pool, 0).durable(),
        );
        assert!(durable.is_err(), "{durable:?}");
    }
    io.stop().unwrap();
}

/// Rule: ABI-6.12.
fn a_write_that_a_drive_lost_fails_every_later_sync(scene: &Scene) {
    check_lost_write(scene, BAD);
}

/// Rule: ABI-6.12.
fn a_write_that_a_drive_refused_fails_every_later_sync(scene: &Scene) {
    let mut parts = Parts::new(LEN as usize);
    let (file, pool) = (parts.file(drive(scene, libc::O_DIRECT)), parts.pool);
    let (host, device) = queue(4);
    let io = parts.builder().queue(host).spawn().unwrap();
    let write = Request::write(file, 0, LEN).from_buffer(pool, 0);
    for write in [write, write.durable(), write.exact()] {
        assert_eq!(ask(&device, write), Err(Errno::EIO));
    }
    assert_eq!(
        ask(&device, Request::read(file, 0, LEN).into_buffer(pool, 0)),
        Ok(LEN)
    );
    io.stop().unwrap();
    check_lost_write(scene, 0);
}

/// Rule: SEC-12.
fn a_slow_drive_delays_no_other_queue(scene: &Scene) {
    const READS: u64 = 64;
    let mut parts = Parts::new(1 << 20);
    let slow = parts.file(drive(scene, libc::O_DIRECT));
    let two = Two::new(scene, parts);
    let read = |at: u64| Request::read(slow, at * 4096, 4096).into_buffer(two.pool, at * 4096);
    let reads: Vec<_> = (0..READS).map(|at| submit(&two.hung, read(at))).collect();
    two.others_are_served();
    for ticket in reads {
        assert_eq!(outcome_of(&two.hung, ticket), Ok(4096));
    }
    two.io.stop().unwrap();
}
