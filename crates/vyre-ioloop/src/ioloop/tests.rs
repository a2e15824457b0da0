//! Ends of loops whose thread or kernel does not cooperate.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use vyre_ioq::{DeviceQueue, Errno, LoopState, Queue, QueueLayout, Request, Ticket};
use vyre_uring::{Buffer, SimBuilder, SimTransport};

use super::*;
use crate::buffer_table::BufferTable;
use crate::error::SpawnError;
use crate::faulty::{Faulty, Orders};
use crate::file_table::FileTable;
use crate::rights::Rights;

/// Time longer than anything takes on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(30);

struct Rig {
    io: IoLoop,
    device: DeviceQueue,
    orders: Arc<Orders>,
    file: FileHandle,
    pool: BufferHandle,
}

fn rig(sim: SimBuilder, options: LoopOptions) -> Rig {
    let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
    let mut disk = tempfile::tempfile().expect("a temporary file");
    disk.write_all(b"weights").expect("room on the disk");
    let file = files.insert(disk, Rights::READ).expect("fit");
    let memory = Buffer::anonymous(4096).expect("memory");
    let pool = buffers.insert(memory).expect("fit");
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(8)).expect("a queue");
    let (faulty, orders) = Faulty::new(sim.build());
    let builder = IoLoop::builder().files(files).buffers(buffers).queue(host);
    let io = builder.options(options).spawn_with(|_| faulty);
    Rig {
        io: io.expect("it starts"),
        device,
        orders,
        file,
        pool,
    }
}

/// LoopOptions by which an end takes no longer than it must.
fn hasty() -> LoopOptions {
    LoopOptions {
        drain_timeout: Duration::ZERO,
        abort_timeout: Duration::ZERO,
        margin: Duration::from_millis(50),
        ..LoopOptions::default()
    }
}

impl Rig {
    fn begin_read(&self) -> Ticket {
        let read = Request::read(self.file, 0, 7).into_buffer(self.pool, 0);
        self.device.submit(read).expect("a free slot")
    }

    fn claimed(&self) -> u64 {
        self.io.queue_counters(0).expect("a queue").claimed
    }
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs what may hang, and fails after [`LIMIT`].
fn bounded<A: Send + 'static>(what: impl FnOnce() -> A + Send + 'static) -> A {
    let (done, seen) = mpsc::sync_channel(1);
    std::thread::spawn(move || done.send(what()));
    seen.recv_timeout(LIMIT).expect("it hangs, or panicked")
}

#[test]
fn a_thread_that_does_not_answer_is_left_to_itself() {
    for shutdown in [Shutdown::Drain, Shutdown::Abort] {
        let rig = rig(SimTransport::builder(1), hasty());
        let (orders, device) = (rig.orders.clone(), &rig.device);
        let held = orders.hold_submit.lock().expect("nobody panicked");
        let ticket = rig.begin_read();
        eventually("the hang", || orders.held.load(Ordering::Acquire) > 0);
        let mut io = rig.io;
        let how = bounded(move || io.end(shutdown));
        assert!(
            matches!(how, Err(StopError::Unresponsive { .. })),
            "{how:?}"
        );
        assert!(device.poll(&ticket).is_none());
        assert_eq!(device.host_state(), Some(LoopState::Running));
        drop(held);
        // It ends by itself, and devices see it.
        eventually("the end of service", || {
            device.host_state() == Some(LoopState::Stopped)
        });
        assert!(device.poll(&ticket).is_some());
    }
}

/// The kernel keeps a thread at its exit for as long as it keeps operations of it.
#[test]
fn a_stuck_loop_s_exit_is_not_waited_for() {
    let options = LoopOptions {
        margin: LIMIT * 10,
        ..hasty()
    };
    let rig = rig(SimTransport::builder(1).hung(1.0), options);
    let held = rig.orders.hold_drop.lock().expect("nobody panicked");
    let ticket = rig.begin_read();
    eventually("the claim", || rig.claimed() == 1);
    let io = rig.io;
    let how = bounded(|| io.abort());
    assert_eq!(how, Err(StopError::Stuck { operations: 1 }));
    assert_eq!(rig.device.host_state(), Some(LoopState::Failed));
    assert!(rig.device.poll(&ticket).is_none());
    drop(held);
}

#[test]
fn an_exit_that_hangs_is_waited_for_in_bounds() {
    let rig = rig(SimTransport::builder(1), hasty());
    let held = rig.orders.hold_drop.lock().expect("nobody panicked");
    let io = rig.io;
    io.begin_end(Shutdown::Drain);
    eventually("the end of service", || io.thread.end().get().is_some());
    assert_eq!(bounded(|| io.stop()), Ok(()), "service has ended well");
    assert_eq!(rig.device.host_state(), Some(LoopState::Stopped));
    drop(held);
}

#[test]
fn a_ring_that_fails_and_is_stuck_says_both() {
    let rig = rig(SimTransport::builder(1).hung(1.0), hasty());
    let _ticket = rig.begin_read();
    eventually("the claim", || rig.claimed() == 1);
    rig.orders.fail_wait.store(true, Ordering::Relaxed);
    eventually("the end", || !rig.io.is_running());
    let revoked = rig.io.revoke_buffer(rig.pool).expect_err("not free");
    let held = matches!(revoked, TableError::Held { operations: 1 });
    assert!(held, "{revoked}");
    let how = rig.io.stop().expect_err("it failed");
    let (errno, kept) = (Errno::EBADF, 1);
    assert_eq!(how, StopError::Ring { errno, kept });
    let text = how.to_string();
    assert!(
        text.contains("EBADF") && text.contains("1 operation"),
        "{text}"
    );
}

#[test]
fn a_panic_is_reported_with_its_message_and_what_the_kernel_keeps() {
    for (sim, kept) in [
        (SimTransport::builder(1).stuck(1.0), 0),
        (SimTransport::builder(1).hung(1.0), 1),
    ] {
        let rig = rig(sim, hasty());
        let _ticket = rig.begin_read();
        eventually("the claim", || rig.claimed() == 1);
        rig.orders.panic_in_submit.store(true, Ordering::Relaxed);
        eventually("the end", || !rig.io.is_running());
        let ended = rig.io.revoke_buffer(rig.pool).expect_err("it has ended");
        let held = matches!(ended, TableError::Held { operations: 1 });
        assert_eq!(held, kept == 1, "{ended}");
        let message = "ordered to".to_owned();
        assert_eq!(rig.io.stop(), Err(StopError::Panicked { message, kept }));
    }
}

#[test]
fn an_unwinding_thread_aborts_the_loop_that_it_drops() {
    let options = LoopOptions {
        drain_timeout: Duration::MAX,
        ..LoopOptions::default()
    };
    let rig = rig(SimTransport::builder(1).stuck(1.0), options);
    let ticket = rig.begin_read();
    eventually("the claim", || rig.claimed() == 1);
    let io = rig.io;
    let panicked = bounded(|| {
        let unwound = std::panic::AssertUnwindSafe(move || {
            let _io = io;
            panic!("the owner's own");
        });
        std::panic::catch_unwind(unwound).is_err()
    });
    assert!(panicked);
    let outcome = rig.device.poll(&ticket).expect("an outcome");
    assert_eq!(outcome.result, Err(Errno::ECANCELED));
    assert_eq!(rig.device.host_state(), Some(LoopState::Stopped));
}

#[test]
fn a_loop_that_does_not_start_says_why() {
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(8)).expect("a queue");
    let wrap = |_| -> Faulty { panic!("no transport: {}", 7) };
    let died = IoLoop::builder().queue(host).spawn_with(wrap);
    let died = died.expect_err("it cannot start");
    let expected = matches!(&died, SpawnError::Died { message } if message == "no transport: 7");
    assert!(expected, "{died}");
    eventually("the end", || device.host_state() == Some(LoopState::Failed));
}

#[test]
fn no_error_says_twice_what_its_source_says() {
    let os = || std::io::Error::from_raw_os_error(1);
    let refused = || vyre_uring::RegisterError::Kernel(vyre_uring::Errno::NOMEM);
    let pin = SpawnError::Pin {
        core: 7,
        reason: os(),
    };
    let group = crate::GroupSpawnError::Loop {
        index: 1,
        reason: pin,
    };
    let change = TableError::Register(refused()).in_loop(1);
    let errors: Vec<Box<dyn std::error::Error>> = vec![
        Box::new(SpawnError::Thread(os())),
        Box::new(SpawnError::Signals(os())),
        Box::new(SpawnError::Register(refused())),
        Box::new(group),
        Box::new(change),
        Box::new(TableError::Register(refused())),
        Box::new(crate::TableError::from(os())),
        Box::new(crate::SharedQueueError::from(
            vyre_uring::BufferError::Empty,
        )),
    ];
    for error in errors {
        let text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            assert!(!text.contains(&cause.to_string()), "{text}");
            source = cause.source();
        }
    }
}

/// Requests on a revoked entry are cancelled when their time is over.
#[test]
fn a_revocation_cancels_what_does_not_end_by_itself() {
    for timeout in [Duration::ZERO, Duration::from_millis(1)] {
        let rig = rig(SimTransport::builder(1).stuck(1.0), LoopOptions::default());
        let [first, second] = [(); 2].map(|()| rig.begin_read());
        eventually("the claims", || rig.claimed() == 2);
        let (file, pool, io) = (rig.file, rig.pool, rig.io);
        let io = bounded(move || {
            io.revoke_file_within(file, timeout).expect("revoked");
            io
        });
        for ticket in [first, second] {
            let outcome = rig.device.poll(&ticket).expect("an outcome");
            assert_eq!(outcome.result, Err(Errno::ECANCELED));
        }
        bounded(move || io.revoke_buffer_within(pool, timeout)).expect("nothing is on it");
    }
}

#[test]
fn a_revocation_says_what_the_kernel_keeps() {
    let options = LoopOptions {
        margin: LIMIT,
        ..hasty()
    };
    let rig = rig(SimTransport::builder(1).hung(1.0), options);
    let _ticket = rig.begin_read();
    eventually("the claim", || rig.claimed() == 1);
    let (file, io) = (rig.file, rig.io);
    let (io, told) = bounded(move || {
        let told = io.revoke_file_within(file, Duration::ZERO);
        (io, told.expect_err("the kernel has it"))
    });
    let TableError::InFlight { handle, requests } = told else {
        panic!("{told}")
    };
    assert_eq!((handle, requests), (file.raw(), 1));
    // Unknown all the same, to the device and to the host.
    let read = Request::read(file, 0, 7).into_buffer(rig.pool, 0);
    let ticket = rig.device.submit(read).expect("a free slot");
    eventually("the refusal", || {
        let outcome = rig.device.poll(&ticket);
        outcome.is_some_and(|it| it.result == Err(Errno::EBADF))
    });
    let twice = bounded(move || io.revoke_file(file)).expect_err("unknown");
    let unknown = matches!(twice, TableError::Unknown { .. });
    assert!(unknown, "{twice}");
}

/// Returns whether requests on the rig's file are refused by now.
fn is_unknown(rig: &Rig) -> bool {
    let nothing = Request::read(rig.file, 0, 0).into_buffer(rig.pool, 0);
    let ticket = rig.device.submit(nothing).expect("a free slot");
    let mut ticket = Some(ticket);
    let mut result = Ok(0);
    eventually("an outcome", || {
        let taken = rig.device.take(ticket.take().expect("not taken yet"));
        match taken {
            Ok(outcome) => result = outcome.result,
            Err(again) => ticket = Some(again),
        }
        ticket.is_none()
    });
    result == Err(Errno::EBADF)
}

#[test]
fn a_revocation_asks_again_where_there_was_no_room_to_cancel() {
    let options = LoopOptions {
        abort_timeout: LIMIT,
        ..LoopOptions::default()
    };
    let rig = rig(SimTransport::builder(1).stuck(1.0), options);
    rig.orders.refuse_cancel.store(true, Ordering::Relaxed);
    let first = rig.begin_read();
    eventually("the claim", || rig.claimed() == 1);
    std::thread::scope(|scope| {
        let revoking = scope.spawn(|| rig.io.revoke_file_within(rig.file, Duration::ZERO));
        eventually("the revocation", || is_unknown(&rig));
        assert!(rig.device.poll(&first).is_none());
        rig.orders.refuse_cancel.store(false, Ordering::Relaxed);
        revoking.join().expect("no panic").expect("revoked");
    });
    let outcome = rig.device.poll(&first).expect("an outcome");
    assert_eq!(outcome.result, Err(Errno::ECANCELED));
}

#[test]
fn a_revocation_by_a_thread_that_does_not_answer_is_bounded() {
    let rig = Arc::new(rig(SimTransport::builder(1), hasty()));
    let held = rig.orders.hold_submit.lock().expect("nobody panicked");
    eventually("the hang", || rig.orders.held.load(Ordering::Acquire) > 0);
    let other = rig.clone();
    let told = bounded(move || other.io.revoke_file(other.file)).expect_err("nobody answers");
    assert!(matches!(told, TableError::Unresponsive { .. }), "{told}");
    drop(held);
    // It is carried out all the same.
    eventually("the revocation", || is_unknown(&rig));
}
