//! SYNCs of one file that are claimed together share a flush.

mod common;

use std::time::Duration;

use common::desk::{Clerk, Desk};
use common::*;
use vyre_ioq::{Errno, FileHandle, Request, Ticket};
use vyre_uring::{Errno as OsErrno, Operation};

struct Bench {
    rig: Rig<Desk>,
    clerk: Clerk,
    file: FileHandle,
}

/// A file with a write in flight.
fn bench() -> Bench {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (desk, clerk) = Desk::new(64);
    let mut rig = tables.on(desk, 64);
    let _write = rig.submit(Request::write(file, 0, 8).from(pool, 0));
    let _ = rig.engine.step();
    Bench { rig, clerk, file }
}

impl Bench {
    fn syncs(&mut self, count: usize) -> Vec<Ticket> {
        (0..count)
            .map(|_| self.rig.submit(Request::sync(self.file)))
            .collect()
    }

    /// Ends what is in flight: the write, or a flush.
    fn complete(&mut self) {
        self.clerk.state().complete(|_| true);
        let _ = self.rig.engine.step();
    }

    /// Flushes begun so far.
    fn flushes(&self) -> usize {
        let state = self.clerk.state();
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

#[test]
fn one_flush_answers_all() {
    let mut bench = bench();
    let syncs = bench.syncs(40);
    let _ = bench.rig.engine.step();
    assert_eq!(bench.flushes(), 0, "the write comes first");
    bench.complete();
    assert_eq!(bench.flushes(), 1);
    assert!(syncs.iter().all(|sync| bench.rig.pending(sync)));
    bench.complete();
    assert_eq!(bench.outcomes(syncs), vec![Ok(0); 40]);
    assert_eq!((bench.flushes(), bench.rig.engine.in_flight()), (1, 0));
}

#[test]
fn a_flush_that_has_begun_answers_nobody_who_comes_later() {
    let mut bench = bench();
    let early = bench.syncs(2);
    let _ = bench.rig.engine.step();
    bench.complete();
    let late = bench.syncs(2);
    let _ = bench.rig.engine.step();
    assert_eq!(bench.flushes(), 2);
    {
        let mut state = bench.clerk.state();
        let first = state.flights[0];
        state.complete(|flight| flight.is(&first));
    }
    let _ = bench.rig.engine.step();
    // Nor is the first believed yet: the kernel may tell the other of a failure.
    for sync in early.iter().chain(&late) {
        assert!(bench.rig.pending(sync));
    }
    bench.complete();
    assert_eq!(bench.outcomes(early), vec![Ok(0); 2]);
    assert_eq!(bench.outcomes(late), vec![Ok(0); 2]);
    assert_eq!(bench.flushes(), 2);
}

#[test]
fn a_failed_flush_fails_all() {
    let mut bench = bench();
    let syncs = bench.syncs(3);
    let _ = bench.rig.engine.step();
    bench.complete();
    bench.clerk.state().fail(OsErrno::NOSPC, |_| true);
    assert_eq!(bench.outcomes(syncs), vec![Err(Errno::ENOSPC); 3]);
    assert_eq!(bench.rig.engine.in_flight(), 0);
}

/// Whoever ends early leaves the others to it, whether it led or not, and whether the flush has begun
/// or not.
#[test]
fn one_that_ends_early_ends_alone() {
    for (timed, has_begun) in [(0, false), (1, false), (0, true), (1, true)] {
        let mut bench = bench();
        let clock = bench.rig.engine.drive_clock();
        let mut syncs: Vec<_> = (0..3)
            .map(|n| {
                let deadline = if n == timed { 100 } else { 0 };
                let sync = Request::sync(bench.file).deadline(deadline);
                bench.rig.submit(sync)
            })
            .collect();
        let _ = bench.rig.engine.step();
        if has_begun {
            bench.complete();
            assert_eq!(bench.flushes(), 1);
        }
        clock.advance(Duration::from_micros(100));
        let late = syncs.remove(timed);
        assert_eq!(bench.rig.wait(late).result, Err(Errno::ETIMEDOUT));
        let _ = bench.rig.engine.step();
        assert!(syncs.iter().all(|sync| bench.rig.pending(sync)));
        if !has_begun {
            assert_eq!(bench.flushes(), 0, "the write comes first");
            bench.complete();
        }
        // The flush of one that led was cancelled with it.
        let flushes = if has_begun && timed == 0 { 2 } else { 1 };
        assert_eq!(bench.flushes(), flushes);
        bench.complete();
        assert_eq!(bench.outcomes(syncs), vec![Ok(0); 2]);
        assert_eq!(bench.rig.engine.in_flight(), 0);
    }
}

#[test]
fn a_stop_answers_all() {
    for has_begun in [false, true] {
        let mut bench = bench();
        let syncs = bench.syncs(5);
        let _ = bench.rig.engine.step();
        if has_begun {
            bench.complete();
        }
        bench.rig.engine.stop(LIMIT).expect("all of it ends");
        assert_eq!(bench.outcomes(syncs), vec![Err(Errno::ECANCELED); 5]);
        assert_eq!(bench.rig.engine.in_flight(), 0);
    }
}
