//! A SYNC completes after the WRITEs that it covers are on stable storage. SYNCs of one file that are
//! claimed together share a flush.

mod common;

use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use common::faulty::Faulty;
use common::manual::{Control, ManualTransport};
use common::*;
use vyre_ioq::{Errno, FileHandle, Request, Ticket};
use vyre_uring::{Errno as OsErrno, Operation, SimTransport};

/// Rule: ABI-6.11.
#[test]
fn a_sync_in_a_lower_slot_waits_for_a_write_in_a_higher_one() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (slots, host, _device) = Slots::queue(64);
    let (faulty, orders) = Faulty::new(SimTransport::builder(1).build());
    let mut engine = tables.engine(faulty, vec![host]);
    slots.publish(63, &Request::write(file, 0, 4).from_buffer(pool, 0));
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

/// Rule: ABI-6.11.
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
    let mut rig = tables.on_transport(8, 64);
    let blocked = rig.submit(Request::write(full, 0, 4096).from_buffer(pool, 0));
    let of_pipe = rig.submit(Request::sync(full));
    assert_eq!(
        rig.run(Request::write(file, 0, 10).from_buffer(pool, 0)),
        Ok(10)
    );
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

/// Rule: ABI-6.11.
#[test]
fn a_sync_behind_a_fence_covers_the_fenced_writes() {
    let tables = Tables::new(0, 1 << 16);
    let bytes = pattern(5, 1 << 16);
    tables.memory.write_at(0, &bytes).unwrap();
    let (file, pool, disk) = (tables.file, tables.pool, tables.disk.try_clone().unwrap());
    let mut rig = tables.on_transport(4, 64);
    let writes: Vec<_> = (0..16)
        .map(|n| rig.submit(Request::write(file, n << 12, 4096).from_buffer(pool, n << 12)))
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

/// A durable write is pushed as durable. A SYNC is pushed after the writes that it covers have
/// completed.
///
/// Rules: ABI-6.11, ABI-6.19.
#[test]
fn durable_writes_are_pushed_as_such_and_syncs_after_their_writes() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (faulty, orders) = Faulty::new(SimTransport::builder(5).max_latency(6).build());
    let mut rig = tables.on(faulty, 64);
    assert_eq!(
        rig.run(Request::write(file, 0, 64).from_buffer(pool, 0).durable()),
        Ok(64)
    );
    let durable = orders.pushed.lock().unwrap().pop();
    assert!(
        matches!(durable, Some(Operation::Write { durable: true, .. })),
        "{durable:?}"
    );

    let writes: Vec<_> = (0..10)
        .map(|n| rig.submit(Request::write(file, n * 64, 64).from_buffer(pool, 0)))
        .collect();
    let sync = rig.submit(Request::sync(file));
    loop {
        let _ = rig.engine.step();
        let last = orders.pushed.lock().unwrap().last().copied();
        let synced = matches!(last, Some(Operation::Sync { .. }));
        let out = writes.iter().filter(|write| rig.pending(write)).count();
        assert!(!synced || out == 0, "synced with {out} writes out");
        if synced {
            break;
        }
    }
    assert_eq!(rig.wait(sync).result, Ok(0));
    assert!(rig.wait_all(writes).iter().all(|o| o.result == Ok(64)));
}

struct Setup {
    rig: Rig<ManualTransport>,
    control: Control,
    file: FileHandle,
}

/// A file with a write in flight.
fn setup() -> Setup {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (transport, control) = ManualTransport::new(64);
    let mut rig = tables.on(transport, 64);
    let _write = rig.submit(Request::write(file, 0, 8).from_buffer(pool, 0));
    let _ = rig.engine.step();
    Setup { rig, control, file }
}

impl Setup {
    fn syncs(&mut self, count: usize) -> Vec<Ticket> {
        (0..count)
            .map(|_| self.rig.submit(Request::sync(self.file)))
            .collect()
    }

    /// Ends the operation in flight: the write, or a flush.
    fn complete(&mut self) {
        self.control.state().complete(|_| true);
        let _ = self.rig.engine.step();
    }

    /// Flushes begun so far.
    fn flushes(&self) -> usize {
        let state = self.control.state();
        let flushes = state.pushed.iter();
        flushes
            .filter(|flight| matches!(flight.op, Operation::Sync { .. }))
            .count()
    }

    fn outcomes(&mut self, tickets: Vec<Ticket>) -> Vec<Result<u32, Errno>> {
        let outcomes = self.rig.wait_all(tickets);
        outcomes.into_iter().map(|outcome| outcome.result).collect()
    }
}

/// Rule: ABI-6.11.
#[test]
fn one_flush_completes_all_syncs_claimed_before_it() {
    let mut setup = setup();
    let syncs = setup.syncs(40);
    let _ = setup.rig.engine.step();
    assert_eq!(setup.flushes(), 0, "the write comes first");
    setup.complete();
    assert_eq!(setup.flushes(), 1);
    assert!(syncs.iter().all(|sync| setup.rig.pending(sync)));
    setup.complete();
    assert_eq!(setup.outcomes(syncs), vec![Ok(0); 40]);
    assert_eq!((setup.flushes(), setup.rig.engine.outstanding()), (1, 0));
}

/// Rule: ABI-6.11.
#[test]
fn a_flush_that_has_begun_completes_no_later_sync() {
    let mut setup = setup();
    let early = setup.syncs(2);
    let _ = setup.rig.engine.step();
    setup.complete();
    let late = setup.syncs(2);
    let _ = setup.rig.engine.step();
    assert_eq!(setup.flushes(), 2);
    {
        let mut state = setup.control.state();
        let first = state.flights[0];
        state.complete(|flight| flight.is(&first));
    }
    let _ = setup.rig.engine.step();
    // The first does not complete yet either: the kernel may report a failure to the other.
    for sync in early.iter().chain(&late) {
        assert!(setup.rig.pending(sync));
    }
    setup.complete();
    assert_eq!(setup.outcomes(early), vec![Ok(0); 2]);
    assert_eq!(setup.outcomes(late), vec![Ok(0); 2]);
    assert_eq!(setup.flushes(), 2);
}

/// Rule: ABI-6.12.
#[test]
fn a_failed_flush_fails_every_sync_that_shares_it() {
    let mut setup = setup();
    let syncs = setup.syncs(3);
    let _ = setup.rig.engine.step();
    setup.complete();
    setup.control.state().fail(OsErrno::NOSPC, |_| true);
    assert_eq!(setup.outcomes(syncs), vec![Err(Errno::ENOSPC); 3]);
    assert_eq!(setup.rig.engine.outstanding(), 0);
}

/// It makes no difference if the request leads the group, or if the flush has begun.
///
/// Rule: ABI-6.17.
#[test]
fn a_sync_that_times_out_leaves_the_others_that_share_its_flush() {
    for (timed, has_begun) in [(0, false), (1, false), (0, true), (1, true)] {
        let mut setup = setup();
        let clock = setup.rig.engine.drive_clock();
        let mut syncs: Vec<_> = (0..3)
            .map(|n| {
                let deadline = if n == timed { 100 } else { 0 };
                let sync = Request::sync(setup.file).with_deadline(deadline);
                setup.rig.submit(sync)
            })
            .collect();
        let _ = setup.rig.engine.step();
        if has_begun {
            setup.complete();
            assert_eq!(setup.flushes(), 1);
        }
        clock.advance(Duration::from_micros(100));
        let late = syncs.remove(timed);
        assert_eq!(setup.rig.wait(late).result, Err(Errno::ETIMEDOUT));
        let _ = setup.rig.engine.step();
        assert!(syncs.iter().all(|sync| setup.rig.pending(sync)));
        if !has_begun {
            assert_eq!(setup.flushes(), 0, "the write comes first");
            setup.complete();
        }
        // If it led the group, its flush was cancelled with it.
        let flushes = if has_begun && timed == 0 { 2 } else { 1 };
        assert_eq!(setup.flushes(), flushes);
        setup.complete();
        assert_eq!(setup.outcomes(syncs), vec![Ok(0); 2]);
        assert_eq!(setup.rig.engine.outstanding(), 0);
    }
}

/// Rule: ABI-4.11.
#[test]
fn a_stop_completes_every_sync_that_shares_a_flush() {
    for has_begun in [false, true] {
        let mut setup = setup();
        let syncs = setup.syncs(5);
        let _ = setup.rig.engine.step();
        if has_begun {
            setup.complete();
        }
        setup.rig.engine.stop(LIMIT).expect("all of it ends");
        assert_eq!(setup.outcomes(syncs), vec![Err(Errno::ECANCELED); 5]);
        assert_eq!(setup.rig.engine.outstanding(), 0);
    }
}
