//! Cases that real rings cannot provoke: a loop that refuses, or panics, or whose kernel keeps
//! operations, beside others that go on.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vyre_ioq::{DeviceQueue, Errno, LoopState, Queue, QueueLayout, Request};
use vyre_uring::{RegisterError, SimTransport};

use super::builder::LoopGroupBuilder;
use super::*;
use crate::error::{GroupSpawnError, SpawnError, StopError, TableError};
use crate::faulty::{Faulty, Orders};
use crate::file_table::FileTable;
use crate::options::LoopOptions;
use crate::rights::Rights;

const LIMIT: Duration = Duration::from_secs(30);

/// Fate of the operations of loop 1; those of the others succeed.
#[derive(Clone, Copy)]
enum Fate {
    Done,
    /// They end when they are cancelled.
    Stuck,
    /// They never end, also when they are cancelled.
    Hung,
}

/// A group of two loops with a queue each, on transports that take orders.
struct Rig {
    group: LoopGroup,
    devices: Vec<DeviceQueue>,
    orders: Vec<Arc<Orders>>,
    file: FileHandle,
    pool: BufferHandle,
}

fn disk() -> File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(b"weights").expect("room on the disk");
    file
}

fn builder() -> (LoopGroupBuilder, Vec<DeviceQueue>, FileHandle, BufferHandle) {
    let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
    let file = files.insert(disk(), Rights::READ).expect("fit");
    let memory = Buffer::anonymous(4096).expect("memory");
    let pool = buffers.insert(memory).expect("fit");
    let mut builder = LoopGroup::builder()
        .loops(2)
        .files(files)
        .buffers(buffers)
        .options(LoopOptions::new().abort_timeout(Duration::ZERO));
    let mut devices = Vec::new();
    for _ in 0..2 {
        let (host, device) = Queue::anonymous(QueueLayout::with_slots(8)).expect("a queue");
        builder = builder.queue(host);
        devices.push(device);
    }
    (builder, devices, file, pool)
}

fn rig(fate: Fate) -> Rig {
    let (builder, devices, file, pool) = builder();
    let (mut orders, mut transports) = (Vec::new(), Vec::new());
    for index in 0..2 {
        let sim = SimTransport::builder(index).files(64).buffers(64);
        let sim = match fate {
            Fate::Stuck if index == 1 => sim.stuck(1.0),
            Fate::Hung if index == 1 => sim.hung(1.0),
            _ => sim,
        };
        let (faulty, order) = Faulty::new(sim.build());
        orders.push(order);
        transports.push(std::cell::Cell::new(Some(faulty)));
    }
    let wrap = |index: usize| {
        let transport: &std::cell::Cell<Option<Faulty>> = &transports[index];
        let transport = transport.take().expect("made once");
        move |_| transport
    };
    let group = builder.spawn_with(wrap).expect("it starts");
    Rig {
        group,
        devices,
        orders,
        file,
        pool,
    }
}

impl Rig {
    fn read(&self, index: usize, file: FileHandle, pool: BufferHandle) -> Result<u32, Errno> {
        let device = &self.devices[index];
        let ticket = device.submit(Request::read(file, 0, 7).into_buffer(pool, 0));
        let outcome = device.wait_for(ticket.expect("a free slot"), LIMIT);
        outcome.expect("an outcome").result
    }

    /// Publishes a read in loop 1 that does not end.
    fn begin_read(&self, file: FileHandle, pool: BufferHandle) {
        let read = Request::read(file, 0, 7).into_buffer(pool, 0);
        let _ = self.devices[1].submit(read).expect("a free slot");
        eventually("the claim", || {
            self.group.queue_counters(1).expect("a queue").claimed == 1
        });
    }

    fn insert_file(&self) -> Result<FileHandle, TableError> {
        self.group.insert_file(disk(), 0..7, Rights::READ)
    }

    fn insert_buffer(&self) -> Result<BufferHandle, TableError> {
        let memory = Buffer::anonymous(64).expect("memory");
        self.group.insert_buffer(memory, 0..64, Rights::WRITE)
    }

    fn end_of_loop_1(&self) {
        eventually("the end of loop 1", || {
            self.group.is_running(1) == Some(false)
        });
        assert_eq!(self.devices[1].host_state(), Some(LoopState::Failed));
    }
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn refused(error: &TableError) -> bool {
    let kernel = RegisterError::Kernel(vyre_uring::Errno::NOMEM);
    matches!(
        error,
        TableError::Loop { index: 1, reason }
            if matches!(&**reason, TableError::Register(why) if why.to_string() == kernel.to_string())
    )
}

#[test]
fn what_one_loop_refuses_no_loop_has() {
    let rig = rig(Fate::Done);
    let (file, pool) = (
        rig.insert_file().expect("fit"),
        rig.insert_buffer().expect("fit"),
    );
    rig.orders[1].refuse_entries.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        let error = rig.insert_file().expect_err("loop 1 refuses");
        assert!(refused(&error), "{error}");
        let error = rig.insert_buffer().expect_err("loop 1 refuses");
        assert!(refused(&error), "{error}");
        for index in 0..2 {
            // Every handle that the new entries can have had.
            for generation in 0..4 {
                let raw = file.raw() + 1 + (generation << 20);
                let read = rig.read(index, FileHandle::from_raw(raw), rig.pool);
                assert_eq!(read, Err(Errno::EBADF));
                let raw = pool.raw() + 1 + (generation << 20);
                let read = rig.read(index, rig.file, BufferHandle::from_raw(raw));
                assert_eq!(read, Err(Errno::EBADF));
            }
            assert_eq!(rig.read(index, file, pool), Ok(7), "as before");
        }
    }
    rig.orders[1].refuse_entries.store(false, Ordering::Relaxed);
    let (next, next_pool) = (
        rig.insert_file().expect("fit"),
        rig.insert_buffer().expect("fit"),
    );
    assert_eq!(next.raw() & 0xf_ffff, file.raw() + 1, "the same place");
    assert_eq!(rig.read(0, next, next_pool), Ok(7));
    assert_eq!(rig.read(1, next, next_pool), Ok(7));
    rig.group.stop().expect("a clean end");
}

#[test]
fn no_loop_shows_an_entry_that_another_may_yet_refuse() {
    let rig = rig(Fate::Done);
    let before = rig.orders[0].entries.load(Ordering::Acquire);
    std::thread::scope(|scope| {
        let held = rig.orders[1].hold_entries.lock().expect("nobody panicked");
        let insert = scope.spawn(|| rig.insert_file());
        eventually("loop 0 has the file", || {
            rig.orders[0].entries.load(Ordering::Acquire) > before
        });
        let next = FileHandle::from_raw(rig.file.raw() + 1);
        assert_eq!(rig.read(0, next, rig.pool), Err(Errno::EBADF));
        // Nor can anybody revoke it.
        let unknown = rig.group.revoke_file(next);
        assert!(matches!(unknown, Err(TableError::Unknown { .. })));
        drop(held);
        let handle = insert.join().expect("no panic").expect("fit");
        assert_eq!(handle, next);
        assert_eq!(rig.read(0, next, rig.pool), Ok(7));
        assert_eq!(rig.read(1, next, rig.pool), Ok(7));
    });
    rig.group.stop().expect("a clean end");
}

#[test]
fn a_loop_that_panics_leaves_the_others_as_they_are() {
    let rig = rig(Fate::Stuck);
    let (file, pool) = (rig.file, rig.insert_buffer().expect("fit"));
    rig.begin_read(file, pool);
    let revoked = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let revoke = scope.spawn(|| {
            let revoked_it = rig.group.revoke_buffer(pool);
            revoked.store(true, Ordering::Release);
            revoked_it
        });
        eventually("the revocation", || {
            rig.read(0, file, pool) == Err(Errno::EBADF)
        });
        let early = revoked.load(Ordering::Acquire);
        rig.orders[1].panic_in_submit.store(true, Ordering::Relaxed);
        assert!(!early, "a read is in flight");
        // Its end lets go of the buffer, and nothing else would have.
        revoke.join().expect("no panic").expect("nothing is held");
    });
    rig.end_of_loop_1();
    let next = rig.insert_file().expect("one loop is left");
    assert_eq!(rig.read(0, next, rig.pool), Ok(7));
    rig.group.revoke_file(next).expect("known");
    rig.group.revoke_file(file).expect("known");
    let stopped = rig.group.stop().expect_err("one panicked");
    let (message, kept) = ("ordered to".to_owned(), 0);
    let panicked = StopError::Panicked { message, kept };
    assert_eq!(stopped.failures(), [(1, panicked)]);
    assert!(
        std::error::Error::source(&stopped).is_none(),
        "it names them all"
    );
    assert!(stopped.to_string().contains("loop 1: "), "{stopped}");
    assert_eq!(rig.devices[0].host_state(), Some(LoopState::Stopped));
}

#[test]
fn memory_that_the_kernel_may_write_to_is_not_called_free() {
    let rig = rig(Fate::Hung);
    let pool = rig.insert_buffer().expect("fit");
    rig.begin_read(rig.file, pool);
    rig.orders[1].fail_wait.store(true, Ordering::Relaxed);
    rig.end_of_loop_1();
    let held = rig.group.revoke_buffer(pool).expect_err("not free");
    let expected = matches!(
        held,
        TableError::Loop { index: 1, ref reason }
            if matches!(**reason, TableError::Held { operations: 1 })
    );
    assert!(expected, "{held}");
    assert_eq!(rig.read(0, rig.file, pool), Err(Errno::EBADF), "revoked");
    // What came after the end of that loop was never in its hands.
    let next = rig.insert_buffer().expect("one loop is left");
    assert_eq!(rig.read(0, rig.file, next), Ok(7));
    rig.group.revoke_buffer(next).expect("free");
    let stopped = rig.group.abort().expect_err("one is stuck");
    let (errno, kept) = (Errno::EBADF, 1);
    assert_eq!(stopped.failures(), [(1, StopError::Ring { errno, kept })]);
}

#[test]
fn a_group_without_a_living_loop_says_so() {
    let rig = rig(Fate::Done);
    for orders in &rig.orders {
        orders.fail_wait.store(true, Ordering::Relaxed);
    }
    rig.end_of_loop_1();
    eventually("the end of loop 0", || {
        rig.group.is_running(0) == Some(false)
    });
    let ended = rig.insert_file().expect_err("nobody is there");
    assert!(matches!(ended, TableError::Ended), "{ended}");
    rig.group.revoke_file(rig.file).expect("in nobody's hands");
    let failures = rig.group.stop().expect_err("both rings failed");
    let (errno, kept) = (Errno::EBADF, 0);
    let failed = StopError::Ring { errno, kept };
    assert_eq!(failures.failures(), [(0, failed.clone()), (1, failed)]);
}

#[test]
fn a_loop_that_cannot_start_is_named_and_the_others_stop() {
    let (builder, devices, ..) = builder();
    let wrap = |index| {
        move |ring| match index {
            0 => ring,
            _ => panic!("no transport for this one"),
        }
    };
    let failed = builder.spawn_with(wrap).expect_err("loop 1 does not start");
    let expected = matches!(
        &failed,
        GroupSpawnError::Loop {
            index: 1,
            reason: SpawnError::Died { message }
        } if message == "no transport for this one"
    );
    assert!(expected, "{failed}");
    assert_eq!(devices[0].host_state(), Some(LoopState::Stopped));
    assert_eq!(devices[1].host_state(), Some(LoopState::Failed));
}

#[test]
fn what_is_unfit_reaches_no_loop() {
    let rig = rig(Fate::Done);
    let memory = Buffer::anonymous(64).expect("memory");
    let error = rig.group.insert_buffer(memory, 0..65, Rights::READ);
    let bad = |error| matches!(error, Err(TableError::BadRange { .. }));
    assert!(bad(error.map(BufferHandle::raw)));
    let error = rig.group.insert_file(disk(), 0..1 << 63, Rights::READ);
    assert!(bad(error.map(FileHandle::raw)));
    rig.group.stop().expect("a clean end");
}

#[test]
fn a_panic_of_the_caller_leaves_no_loop_behind() {
    let (builder, devices, ..) = builder();
    let name = "vyre-orphan";
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        builder.name(name).spawn_with(|index| {
            assert_eq!(index, 0, "the caller's mistake");
            |ring| ring
        })
    }));
    assert!(panicked.is_err());
    let tasks = std::fs::read_dir("/proc/self/task").expect("procfs");
    for task in tasks.map(|task| task.expect("a thread").path()) {
        // A thread of another test may have ended meanwhile.
        let called = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
        assert!(!called.starts_with(name), "{called}");
    }
    for device in devices {
        assert_eq!(device.host_state(), Some(LoopState::Failed));
    }
}

/// One deadline holds for all loops: their times to answer do not add up.
#[test]
fn loops_that_do_not_answer_are_waited_for_together() {
    const LOOPS: u32 = 20;
    let mut options = LoopOptions {
        abort_timeout: Duration::ZERO,
        ..LoopOptions::default()
    };
    options.margin = Duration::from_secs(1);
    let mut builder = LoopGroup::builder().loops(LOOPS as usize).options(options);
    let mut devices = Vec::new();
    for _ in 0..LOOPS {
        let (host, device) = Queue::anonymous(QueueLayout::with_slots(8)).expect("a queue");
        builder = builder.queue(host);
        devices.push(device);
    }
    let faulty = |_| Faulty::new(SimTransport::builder(1).build());
    let (transports, orders): (Vec<_>, Vec<_>) = (0..LOOPS).map(faulty).unzip();
    let mut transports = transports.into_iter();
    let wrap = |_| {
        let transport = transports.next().expect("one for each");
        move |_| transport
    };
    let group = builder.spawn_with(wrap).expect("it starts");
    let held: Vec<_> = orders.iter().map(|it| it.hold_submit.lock()).collect();
    for orders in &orders {
        eventually("the hang", || orders.held.load(Ordering::Acquire) > 0);
    }
    let begun = Instant::now();
    let ended = group.abort().expect_err("nobody answers");
    // One after the other, it would be more.
    assert!(begun.elapsed() < LOOPS * options.margin);
    assert_eq!(ended.failures().len(), LOOPS as usize);
    for (_, error) in ended.failures() {
        let expected = matches!(error, StopError::Unresponsive { .. });
        assert!(expected, "{error}");
    }
    drop(held);
    for device in devices {
        eventually("the end", || {
            device.host_state() == Some(LoopState::Stopped)
        });
    }
}

/// No other entry gets the index of a handle on which a loop still has requests in flight.
#[test]
fn what_one_loop_still_has_in_flight_is_named_and_keeps_its_index() {
    let rig = rig(Fate::Stuck);
    rig.orders[1].refuse_cancel.store(true, Ordering::Relaxed);
    let read = Request::read(rig.file, 0, 7).into_buffer(rig.pool, 0);
    let ticket = rig.devices[1].submit(read).expect("a free slot");
    eventually("the claim", || {
        rig.group.queue_counters(1).expect("a queue").claimed == 1
    });
    let told = rig.group.revoke_file_within(rig.file, Duration::ZERO);
    let told = told.expect_err("loop 1 has it");
    let TableError::Loop { index, reason } = told else {
        panic!("{told}")
    };
    let TableError::InFlight { handle, requests } = *reason else {
        panic!("{reason}")
    };
    assert_eq!((index, handle, requests), (1, rig.file.raw(), 1));
    let twice = rig.group.revoke_file(rig.file).expect_err("unknown");
    assert!(matches!(twice, TableError::Unknown { .. }), "{twice}");
    let index_of = |handle: FileHandle| handle.raw() & 0xf_ffff;
    let insert = || {
        let file = rig.group.insert_file(disk(), .., Rights::READ);
        file.expect("it fits")
    };
    assert_ne!(index_of(insert()), index_of(rig.file));
    rig.orders[1].refuse_cancel.store(false, Ordering::Relaxed);
    eventually("the end", || rig.devices[1].poll(&ticket).is_some());
    // From then on it is free.
    eventually("the index", || index_of(insert()) == index_of(rig.file));
    rig.group.stop().expect("it ends well");
}
