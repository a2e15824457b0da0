//! Reads of cached bytes that the transport performs at once, in bundles, and those that it then cannot perform.

mod common;

use std::time::Duration;

use common::manual::{Control, ManualTransport};
use common::*;
use vyre_ioloop::{FileOptions, QueueId, QueueLimits, Rights};
use vyre_ioq::{BufferHandle, Errno, FileHandle, Request};
use vyre_uring::{Errno as OsErrno, MAX_BUNDLE};

const BLOCK: u32 = 4096;
const ALL: u64 = u64::MAX;

/// A transport that bundles, and a file in memory.
struct Bundling {
    tables: Tables,
    transport: ManualTransport,
    control: Control,
    file: FileHandle,
    pool: BufferHandle,
}

fn bundling(capacity: u32) -> Bundling {
    let mut tables = Tables::new(4096, 16 << 20);
    let options = FileOptions::new(Rights::all()).page_cache_reads(true);
    let file = tables.files.insert(memfd_of(b"x"), options).expect("fit");
    let (transport, control) = ManualTransport::new(capacity);
    control.state().bundles = true;
    Bundling {
        pool: tables.pool,
        tables,
        transport,
        control,
        file,
    }
}

impl Bundling {
    fn rig(self, slots: u32) -> (Rig<ManualTransport>, Control, impl Fn(u32) -> Request) {
        let (file, pool) = (self.file, self.pool);
        let read = move |len| Request::read(file, 0, len).into_buffer(pool, 0);
        (self.tables.on(self.transport, slots), self.control, read)
    }
}

#[test]
fn a_bundled_read_ends_in_the_pass_that_claims_it() {
    let (mut rig, control, read) = bundling(8).rig(4);
    let ticket = rig.submit(read(BLOCK));
    let progress = rig.engine.step();
    assert_eq!(
        (progress.claimed, progress.started, progress.reaped),
        (1, 1, 1)
    );
    assert_eq!(rig.device.take(ticket).unwrap().result, Ok(BLOCK));
    assert!(control.state().pushed.is_empty());
    assert_eq!(rig.engine.counters().operations, 1);
    let counters = rig.engine.queue_counters(0).unwrap();
    assert_eq!(
        (counters.succeeded, counters.bytes_read),
        (1, u64::from(BLOCK))
    );
    assert_eq!(rig.engine.outstanding(), 0);
}

#[test]
fn a_read_that_was_not_copied_is_pushed_and_the_others_are_not() {
    let (mut rig, control, read) = bundling(8).rig(4);
    let tickets: Vec<_> = (1..4).map(|len| rig.submit(read(len))).collect();
    control.state().failing = 0b10;
    let _ = rig.engine.step();
    let left = tickets
        .into_iter()
        .filter_map(|it| rig.device.take(it).err());
    let left: Vec<_> = left.collect();
    assert_eq!(left.len(), 1);
    assert_eq!(control.state().flights[0].bytes(), 2);
    control.end(Ok(2));
    for ticket in left {
        assert_eq!(rig.wait(ticket).result, Ok(2));
    }
}

/// The fence and a read that precedes it come while a sweep is under way, so that the sweep that covers the fence finds the
/// read first.
///
/// Rule: ABI-6.7.
#[test]
fn a_fence_that_a_sweep_covers_waits_for_the_bundle_of_that_sweep() {
    let bundling = bundling(8);
    let (file, pool) = (bundling.file, bundling.pool);
    let read = move |offset| Request::read(file, offset, BLOCK).into_buffer(pool, 0);
    let (slots, host, _device) = Slots::queue(192);
    let control = bundling.control.clone();
    let mut engine = bundling.tables.engine(bundling.transport, vec![host]);
    let meanwhile = slots.clone();
    control.state().on_bundle.0 = Some(Box::new(move |offset| match offset {
        // The first sweep has passed slot 0, the second has passed slot 1 and not slot 70.
        1 => meanwhile.publish(0, &read(2)),
        2 => {
            meanwhile.publish(1, &read(3));
            meanwhile.publish(70, &Request::fence());
        }
        _ => {}
    }));
    slots.publish(64, &read(1));
    slots.publish(128, &Request::fence());
    let _ = engine.step();
    assert_eq!(slots.outcome(0), Some(Ok(BLOCK)), "in the second sweep");
    assert_eq!((slots.outcome(1), slots.outcome(70)), (None, None));
    control.state().failing = ALL;
    let _ = engine.step();
    assert_eq!(control.waiting(), 1, "the copy failed");
    assert_eq!(slots.outcome(70), None, "the read is not done");
    control.end(Ok(BLOCK));
    let _ = engine.step();
    assert_eq!(slots.outcome(1), Some(Ok(BLOCK)));
    assert_eq!(slots.outcome(70), Some(Ok(0)));
}

/// Rule: SEC-12.
#[test]
fn a_pass_copies_a_bounded_number_of_bytes_in_bounded_bundles() {
    let (mut rig, control, read) = bundling(16).rig(16);
    let _tickets: Vec<_> = (0..10).map(|_| rig.submit(read(1 << 20))).collect();
    let _ = rig.engine.step();
    let bundles = || -> Vec<_> { control.state().copied.iter().map(Vec::len).collect() };
    assert_eq!(bundles(), [1; 8], "8 MiB a pass, 256 KiB a bundle");
    assert_eq!(control.waiting(), 0);
    let _ = rig.engine.step();
    assert_eq!(control.waiting(), 2, "what had to wait is in flight");
    let (mut rig, control, read) = bundling(16).rig(128);
    let _tickets: Vec<_> = (0..100).map(|_| rig.submit(read(1))).collect();
    let _ = rig.engine.step();
    let bundles: Vec<_> = control.state().copied.iter().map(Vec::len).collect();
    assert_eq!(bundles, [MAX_BUNDLE, 100 - MAX_BUNDLE]);
}

/// Rule: SEC-12.
#[test]
fn a_bundle_overtakes_nobody_who_waits() {
    let bundling = bundling(1);
    let (plain, pool) = (bundling.tables.file, bundling.pool);
    let (mut rig, control, read) = bundling.rig(4);
    let plain = || rig.submit(Request::read(plain, 0, 1).into_buffer(pool, 0));
    let _ahead = [plain(), plain()];
    control.state().bundles = false;
    let _ = rig.engine.step();
    control.state().bundles = true;
    let ticket = rig.submit(read(BLOCK));
    let _ = rig.engine.step();
    assert!(rig.pending(&ticket), "one in flight, one waits");
    assert!(control.state().copied.is_empty());
}

/// Rule: SEC-20.
#[test]
fn reads_of_a_queue_with_limits_are_not_bundled() {
    let (mut rig, control, read) = bundling(8).rig(4);
    let limits = QueueLimits::new().operations_per_second(1);
    rig.engine.set_limits(QueueId::from_raw(0), limits).unwrap();
    let _ticket = rig.submit(read(BLOCK));
    let _ = rig.engine.step();
    assert_eq!(control.waiting(), 1);
}

/// Rule: SEC-9.
#[test]
fn a_read_that_was_not_copied_keeps_its_file_until_it_ends() {
    let bundling = bundling(8);
    let file = bundling.file;
    let (mut rig, control, read) = bundling.rig(4);
    let copied = rig.submit(read(BLOCK));
    control.state().failing = ALL;
    let ticket = rig.submit(read(BLOCK));
    control.state().failing = 0b10;
    let _ = rig.engine.step();
    assert_eq!(rig.wait(copied).result, Ok(BLOCK));
    let revocation = rig.engine.revoke_file(file).unwrap();
    assert!(!rig.engine.is_revoked(revocation));
    control.end(Ok(BLOCK));
    assert_eq!(rig.wait(ticket).result, Ok(BLOCK));
    assert!(rig.engine.is_revoked(revocation));
    let late = rig.submit(read(BLOCK));
    assert_eq!(rig.wait(late).result, Err(Errno::EBADF));
}

#[test]
fn copied_reads_keep_no_file() {
    let bundling = bundling(8);
    let file = bundling.file;
    let (mut rig, _control, read) = bundling.rig(4);
    let ticket = rig.submit(read(BLOCK));
    let _ = rig.engine.step();
    let revocation = rig.engine.revoke_file(file).unwrap();
    assert!(rig.engine.is_revoked(revocation));
    assert_eq!(rig.wait(ticket).result, Ok(BLOCK));
}

/// Rules: ABI-6.17, ABI-6.16.
#[test]
fn a_read_that_was_not_copied_has_its_deadline_and_its_flags() {
    let (mut rig, control, read) = bundling(8).rig(4);
    control.state().failing = ALL;
    let clock = rig.engine.drive_clock();
    let timed = rig.submit(read(BLOCK).with_deadline(5));
    let _ = rig.engine.step();
    assert_eq!(control.waiting(), 1);
    clock.advance(Duration::from_micros(10));
    assert_eq!(rig.wait(timed).result, Err(Errno::ETIMEDOUT));
    let exact = rig.submit(read(BLOCK).exact());
    let _ = rig.engine.step();
    control.end(Ok(7));
    let _ = rig.engine.step();
    control.end(Ok(0));
    assert_eq!(rig.wait(exact).result, Err(Errno::ENODATA));
}

/// Rule: ABI-6.16.
#[test]
fn the_transport_may_refuse_what_it_did_not_copy() {
    let (mut rig, control, read) = bundling(8).rig(4);
    control.state().failing = ALL;
    let ticket = rig.submit(read(BLOCK));
    let _ = rig.engine.step();
    control.state().fail(OsErrno::IO, |_| true);
    assert_eq!(rig.wait(ticket).result, Err(Errno::EIO));
}
