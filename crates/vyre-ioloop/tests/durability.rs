//! After a failed flush, no SYNC and no DURABLE write of the file succeeds, whichever queue, loop or
//! handle it comes through.

mod common;

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use common::manual::{Control, ManualTransport};
use common::*;
use vyre_ioloop::{Engine, FileTable, Rights};
use vyre_ioq::{BufferHandle, DeviceQueue, Errno, FileHandle, Queue, Request, Ticket};
use vyre_uring::{Errno as OsErrno, SimTransport};

/// Engine with one file, whose operations end when the test says so.
struct Loop {
    engine: Engine<ManualTransport>,
    device: DeviceQueue,
    transport: Control,
    file: FileHandle,
    pool: BufferHandle,
}

impl Loop {
    fn on(file: impl Into<OwnedFd>) -> Self {
        let mut tables = Tables::new(16, 4096);
        tables.files = FileTable::new();
        let file = tables.files.insert(file, RIGHTS).unwrap();
        let (host, device) = Queue::anonymous(layout(16)).unwrap();
        let pool = tables.pool;
        let (transport, control) = ManualTransport::new(64);
        // The test decides what becomes of an operation that the engine cancels.
        control.state().cancels = false;
        Self {
            engine: tables.engine(transport, vec![host]),
            device,
            transport: control,
            file,
            pool,
        }
    }

    fn insert(&mut self, file: impl Into<OwnedFd>) -> FileHandle {
        self.engine.insert_file(file, 0..1 << 20, RIGHTS).unwrap()
    }

    fn step(&mut self) {
        for _ in 0..3 {
            let _ = self.engine.step();
        }
    }

    fn submit(&mut self, request: Request) -> Ticket {
        let ticket = self.device.submit(request).unwrap();
        self.step();
        ticket
    }

    /// Returns the outcome of a request, if it has one.
    fn outcome(&mut self, ticket: &Ticket) -> Option<Result<u32, Errno>> {
        self.step();
        self.device.poll(ticket).map(|outcome| outcome.result)
    }

    /// Submits a request whose operations end in these ways, and takes its outcome.
    fn play(&mut self, request: Request, ends: &[Result<u32, OsErrno>]) -> Result<u32, Errno> {
        let ticket = self.submit(request);
        for &end in ends {
            self.transport.end(end);
            self.step();
        }
        assert_eq!(self.transport.waiting(), 0, "all was said");
        self.device.take(ticket).expect("an outcome").result
    }

    fn sync(&mut self, ends: &[Result<u32, OsErrno>]) -> Result<u32, Errno> {
        self.play(Request::sync(self.file), ends)
    }

    fn durable(&self) -> Request {
        Request::write(self.file, 0, 16)
            .from_buffer(self.pool, 0)
            .durable()
    }
}

const RIGHTS: Rights = Rights::all();

fn reopened(file: &File) -> File {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::options().read(true).write(true).open(path).unwrap()
}

/// Returns a file, and a loop each on two descriptions of it and on a duplicate of the first.
fn loops() -> (File, [Loop; 3]) {
    let file = file_of(&[0; 4096]);
    let loops = [
        Loop::on(file.try_clone().unwrap()),
        Loop::on(reopened(&file)),
        Loop::on(file.try_clone().unwrap()),
    ];
    (file, loops)
}

/// Rules: ABI-6.12, ABI-6.14.
#[test]
fn a_failed_sync_fails_every_later_sync_of_the_file_in_every_loop() {
    let (_file, mut loops) = loops();
    let (_other, mut others) = self::loops();
    assert_eq!(loops[0].sync(&[Ok(0)]), Ok(0));
    assert_eq!(loops[0].sync(&[Err(OsErrno::NOSPC)]), Err(Errno::ENOSPC));
    for io in &mut loops {
        for _ in 0..2 {
            assert_eq!(io.sync(&[]), Err(Errno::ENOSPC), "without a second flush");
            assert_eq!(io.play(io.durable(), &[]), Err(Errno::ENOSPC));
        }
        let plain = Request::write(io.file, 0, 16).from_buffer(io.pool, 0);
        assert_eq!(io.play(plain, &[Ok(16)]), Ok(16), "writes go on");
    }
    assert_eq!(others[0].sync(&[Ok(0)]), Ok(0), "another file");
}

/// Rule: ABI-6.13.
#[test]
fn only_a_file_that_is_opened_anew_ends_the_failure() {
    let (file, mut loops) = loops();
    let [io, ..] = &mut loops;
    assert_eq!(io.sync(&[Err(OsErrno::IO)]), Err(Errno::EIO));
    let old = io.insert(file.try_clone().unwrap());
    assert_eq!(
        io.play(Request::sync(old), &[]),
        Err(Errno::EIO),
        "a duplicate"
    );
    let handle = io.file;
    let revoked = io.engine.revoke_file(handle).unwrap();
    assert!(io.engine.is_revoked(revoked));
    let old = io.insert(file.try_clone().unwrap());
    assert_eq!(
        io.play(Request::sync(old), &[]),
        Err(Errno::EIO),
        "a new handle"
    );
    let new = io.insert(reopened(&file));
    assert_eq!(io.play(Request::sync(new), &[Ok(0)]), Ok(0));
    let durable = Request::write(new, 0, 16).from_buffer(io.pool, 0).durable();
    assert_eq!(io.play(durable, &[Ok(16)]), Ok(16));
    // Entries that were inserted before are not affected.
    assert_eq!(loops[1].sync(&[]), Err(Errno::EIO));
}

/// Rule: ABI-6.13.
#[test]
fn a_new_file_with_the_inode_number_of_a_deleted_one_has_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let create = || {
        File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap()
    };
    let mut io = Loop::on(create());
    assert_eq!(io.sync(&[Err(OsErrno::IO)]), Err(Errno::EIO));
    let handle = io.file;
    let _ = io.engine.revoke_file(handle).unwrap();
    std::fs::remove_file(&path).unwrap();
    let new = io.insert(create());
    assert_eq!(io.play(Request::sync(new), &[Ok(0)]), Ok(0));
}

/// Both flushes are in flight when the kernel reports the failure to one of them. Neither succeeds, in
/// whichever order they complete.
///
/// Rule: ABI-6.12.
#[test]
fn if_one_of_two_overlapping_syncs_fails_both_fail() {
    for (first, second) in [(0, 0), (0, 1), (0, 2)] {
        let (_file, mut loops) = loops();
        let tickets = [first, second].map(|io| {
            let sync = Request::sync(loops[io].file);
            loops[io].submit(sync)
        });
        // One flush may serve both, if they are of one queue.
        if first != second || loops[first].transport.waiting() == 2 {
            let last = loops[second].transport.waiting() - 1;
            loops[second].transport.end_at(last, Ok(0));
            assert_eq!(loops[second].outcome(&tickets[1]), None, "not believed yet");
        }
        loops[first].transport.end(Err(OsErrno::IO));
        assert_eq!(loops[first].outcome(&tickets[0]), Some(Err(Errno::EIO)));
        assert_eq!(loops[second].outcome(&tickets[1]), Some(Err(Errno::EIO)));
    }
}

/// Rule: ABI-6.12.
#[test]
fn a_durable_write_fails_if_its_flush_overlaps_a_failed_one() {
    let (_file, [mut one, mut two, _]) = loops();
    let durable = two.durable();
    let write = two.submit(durable);
    let sync = one.submit(Request::sync(one.file));
    two.transport.end(Ok(16));
    assert_eq!(two.outcome(&write), None);
    one.transport.end(Err(OsErrno::IO));
    assert_eq!(one.outcome(&sync), Some(Err(Errno::EIO)));
    assert_eq!(two.outcome(&write), Some(Err(Errno::EIO)));
}

/// Rule: ABI-6.12.
#[test]
fn a_successful_flush_waits_for_overlapping_ones_and_for_no_later_ones() {
    let (_file, [mut one, mut two, mut three]) = loops();
    let first = one.submit(Request::sync(one.file));
    let second = two.submit(Request::sync(two.file));
    two.transport.end(Ok(0));
    assert_eq!(two.outcome(&second), None);
    let third = three.submit(Request::sync(three.file));
    one.transport.end(Ok(0));
    // The first waits for the third, which had begun when the first completed.
    assert_eq!(one.outcome(&first), None);
    assert_eq!(two.outcome(&second), Some(Ok(0)), "though the third is out");
    three.transport.end(Ok(0));
    assert_eq!(three.outcome(&third), Some(Ok(0)));
    assert_eq!(one.outcome(&first), Some(Ok(0)));
    assert_eq!((one.engine.outstanding(), two.engine.outstanding()), (0, 0));
}

/// Rule: ABI-6.17.
#[test]
fn a_sync_that_waits_for_an_overlapping_flush_times_out() {
    let (_file, [mut one, mut two, _]) = loops();
    let _first = one.submit(Request::sync(one.file));
    let second = two.submit(Request::sync(two.file).with_deadline(1));
    two.transport.end(Ok(0));
    eventually("the deadline", || {
        two.outcome(&second) == Some(Err(Errno::ETIMEDOUT))
    });
    one.transport.end(Ok(0));
    one.step();
    let _ = two.device.take(second);
    assert_eq!(two.sync(&[Ok(0)]), Ok(0));
}

/// Rule: ABI-6.15.
#[test]
fn a_failed_write_that_moved_nothing_is_not_a_failed_flush() {
    for errno in [OsErrno::NOSPC, OsErrno::IO, OsErrno::DQUOT, OsErrno::FBIG] {
        let (_file, [mut io, ..]) = loops();
        let plain = Request::write(io.file, 0, 16).from_buffer(io.pool, 0);
        assert!(io.play(plain, &[Err(errno)]).is_err());
        assert_eq!(io.sync(&[Ok(0)]), Ok(0), "after a plain write");
        let durable = io.durable();
        let ticket = io.submit(durable);
        assert!(io.transport.is_durable(0));
        io.transport.end(Err(errno));
        assert_eq!(io.outcome(&ticket), None, "tried once more");
        assert!(!io.transport.is_durable(0), "without a flush");
        io.transport.end(Err(errno));
        assert!(matches!(io.outcome(&ticket), Some(Err(_))));
        assert_eq!(io.sync(&[Ok(0)]), Ok(0), "after a DURABLE one");
    }
}

/// Rules: ABI-6.12, ABI-6.15.
#[test]
fn a_durable_write_whose_flush_failed_fails_later_syncs() {
    let (_file, [mut io, mut other, _]) = loops();
    let durable = io.durable();
    // The second attempt succeeds without a flush, so it was the flush that failed.
    assert_eq!(
        io.play(durable, &[Err(OsErrno::IO), Ok(16)]),
        Err(Errno::EIO)
    );
    assert_eq!(io.sync(&[]), Err(Errno::EIO));
    assert_eq!(other.sync(&[]), Err(Errno::EIO));
}

/// Rule: ABI-6.12.
#[test]
fn no_sync_succeeds_while_the_cause_of_a_failed_durable_write_is_unknown() {
    let (_file, [mut io, mut other, _]) = loops();
    let durable = io.durable();
    let write = io.submit(durable);
    let sync = other.submit(Request::sync(other.file));
    io.transport.end(Err(OsErrno::IO));
    io.step();
    other.transport.end(Ok(0));
    assert_eq!(other.outcome(&sync), None);
    io.transport.end(Ok(16));
    assert_eq!(io.outcome(&write), Some(Err(Errno::EIO)));
    assert_eq!(other.outcome(&sync), Some(Err(Errno::EIO)));
}

/// Rule: ABI-6.15.
#[test]
fn an_errno_that_says_that_nothing_was_done_is_not_a_failed_flush() {
    for errno in [OsErrno::INVAL, OsErrno::ROFS, OsErrno::OPNOTSUPP] {
        let (_file, [mut io, ..]) = loops();
        assert!(io.sync(&[Err(errno)]).is_err());
        assert_eq!(io.sync(&[Ok(0)]), Ok(0), "{errno}");
        let durable = io.durable();
        assert!(io.play(durable, &[Err(errno)]).is_err());
        assert_eq!(io.sync(&[Err(OsErrno::INTR), Ok(0)]), Ok(0), "{errno}");
    }
}

/// Rule: ABI-6.15.
#[test]
fn a_durable_write_in_pieces_has_one_outcome() {
    let (_file, [mut io, ..]) = loops();
    let durable = io.durable();
    // Eight bytes are on disk. Then the flush of the others fails. "As with pwrite" would report 8.
    let ends = [Ok(8), Err(OsErrno::IO), Ok(8)];
    assert_eq!(io.play(durable, &ends), Err(Errno::EIO));
    assert_eq!(io.sync(&[]), Err(Errno::EIO));
    let (_file, [mut io, ..]) = loops();
    let durable = io.durable();
    let ends = [Ok(8), Err(OsErrno::NOSPC), Err(OsErrno::NOSPC)];
    assert_eq!(io.play(durable, &ends), Ok(8), "which are on disk");
    assert_eq!(io.sync(&[Ok(0)]), Ok(0));
}

/// Rule: ABI-6.12.
#[test]
fn writes_to_a_file_open_with_o_dsync_count_as_flushes() {
    let file = file_of(&[0; 4096]);
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::DSYNC;
    let dsync = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).unwrap();
    let (mut io, mut other) = (Loop::on(dsync), Loop::on(file));
    let write = Request::write(io.file, 0, 16).from_buffer(io.pool, 0);
    let full = Err(OsErrno::NOSPC);
    assert_eq!(io.play(write, &[full, full]), Err(Errno::ENOSPC));
    assert_eq!(io.sync(&[Ok(0)]), Ok(0), "nothing was moved");
    assert_eq!(io.play(write, &[Err(OsErrno::IO), Ok(16)]), Err(Errno::EIO));
    assert_eq!(io.play(write, &[]), Err(Errno::EIO));
    assert_eq!(other.sync(&[]), Err(Errno::EIO));
}

/// The second attempt is flushed as well, and fails as the first did.
///
/// Rule: ABI-6.15.
#[test]
fn on_a_file_open_with_o_sync_a_write_that_fails_twice_is_a_failed_flush() {
    let file = file_of(&[0; 4096]);
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::SYNC;
    let sync = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).unwrap();
    let mut io = Loop::on(sync);
    let write = Request::write(io.file, 0, 16).from_buffer(io.pool, 0);
    let broken = Err(OsErrno::IO);
    assert_eq!(io.play(write, &[broken, broken]), Err(Errno::EIO));
    assert_eq!(io.sync(&[]), Err(Errno::EIO));
}

/// The kernel may have reported a failure to this flush, and reports it to no other.
///
/// Rule: ABI-6.12.
#[test]
fn a_flush_that_the_kernel_holds_at_shutdown_counts_as_failed() {
    let (_file, [mut io, mut other, _]) = loops();
    let _held = io.submit(Request::sync(io.file));
    let waits = other.submit(Request::sync(other.file));
    other.transport.end(Ok(0));
    assert_eq!(other.outcome(&waits), None);
    io.transport.state().holds = true;
    assert!(io.engine.stop(Duration::ZERO).is_err());
    assert_eq!(other.outcome(&waits), Some(Err(Errno::EIO)));
    io.transport.state().holds = false;
}

/// Rule: ABI-6.15.
#[test]
fn a_flush_cancelled_before_it_began_is_not_a_failed_flush() {
    let (_file, [mut io, mut other, _]) = loops();
    let sync = Request::sync(io.file).with_deadline(1);
    let timed = io.submit(sync);
    eventually("the deadline", || {
        io.step();
        if io.transport.waiting() > 0 && io.engine.counters().timed_out > 0 {
            io.transport.end(Err(OsErrno::CANCELED));
        }
        io.outcome(&timed).is_some()
    });
    assert_eq!(other.sync(&[Ok(0)]), Ok(0));
}

/// The record of a failure outlives the loop that saw it.
///
/// Rule: ABI-6.12.
#[test]
fn loops_created_later_know_of_a_failed_flush() {
    let file = file_of(&[0; 4096]);
    let mut io = Loop::on(file.try_clone().unwrap());
    assert_eq!(io.sync(&[Err(OsErrno::IO)]), Err(Errno::EIO));
    io.engine.stop(Duration::ZERO).unwrap();
    drop(io);
    assert_eq!(
        Loop::on(file.try_clone().unwrap()).sync(&[]),
        Err(Errno::EIO)
    );
    assert_eq!(Loop::on(reopened(&file)).sync(&[Ok(0)]), Ok(0));
}

/// On a transport that performs its operations.
///
/// Rule: ABI-6.12.
#[test]
fn a_failed_flush_fails_syncs_on_every_queue_of_the_loop() {
    let tables = Tables::new(4096, 4096);
    let (file, _pool) = (tables.file, tables.pool);
    let mut ends = Vec::new();
    let mut hosts = Vec::new();
    for _ in 0..2 {
        let (host, device) = Queue::anonymous(layout(16)).unwrap();
        hosts.push(host);
        ends.push(device);
    }
    let mut sim = SimTransport::builder(1).build();
    sim.fail_next(OsErrno::IO);
    let mut engine = tables.engine(sim, hosts);
    for device in &ends {
        for _ in 0..2 {
            let ticket = device.submit(Request::sync(file)).unwrap();
            for _ in 0..4 {
                let _ = engine.step();
            }
            assert_eq!(device.take(ticket).unwrap().result, Err(Errno::EIO));
        }
    }
}
