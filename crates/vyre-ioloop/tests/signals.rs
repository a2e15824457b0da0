//! Signals that a device can cause in its host, and signals from others. A test that could end the
//! process runs in a child.

mod common;

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::*;
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::gettid;
use vyre_ioloop::{Engine, LoopGroup, Rights, block_signals};
use vyre_ioq::{Errno, Queue, Request};

const EFBIG: Errno = Errno::from_raw(libc::EFBIG as u32);
const EPIPE: Errno = Errno::from_raw(libc::EPIPE as u32);

/// Environment variable that is set in a child.
const CHILD: &str = "VYRE_SIGNALS_CHILD";

/// Runs a test of this file again in a process of its own. In that process, runs the test.
fn in_child(name: &str, test: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some() {
        return test();
    }
    let this = std::env::current_exe().expect("its path");
    let output = Command::new(this)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .expect("it starts");
    let status = output.status;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(status.success(), "signal {:?}: {said}", status.signal());
    for skipped in said.lines().filter(|line| line.starts_with("SKIPPED: ")) {
        let _ = writeln!(std::io::stderr(), "{skipped}");
    }
    let passed = String::from_utf8_lossy(&output.stdout);
    assert!(passed.contains("1 passed"), "it ran: {passed}");
}

/// Returns the outcome of a write of 4096 bytes to a file, at an offset.
fn written(file: impl Into<std::os::fd::OwnedFd>, offset: u64) -> Result<u32, Errno> {
    let mut tables = Tables::new(4096, 4096);
    let file = tables.files.insert(file, Rights::WRITE).expect("fit");
    let pool = tables.pool;
    let (host, device) = Queue::anonymous(layout(4)).expect("a queue");
    let io = tables.loop_on(host);
    let write = Request::write(file, offset, 4096).from_buffer(pool, 0);
    let result = outcome_of(&device, device.submit(write).expect("a free slot"));
    assert!(io.is_running());
    io.stop().expect("a clean end");
    result
}

fn limit_file_sizes(bytes: u64) {
    let limit = Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    setrlimit(Resource::Fsize, limit).expect("lower than before");
}

/// Rule: SEC-6.
#[test]
fn a_write_past_the_limit_on_file_sizes_is_efbig() {
    in_child("a_write_past_the_limit_on_file_sizes_is_efbig", || {
        let_signal_kill(libc::SIGXFSZ);
        let folder = tempfile::tempdir().expect("a folder");
        limit_file_sizes(1 << 20);
        // Either the thread of the loop or a worker of the kernel meets the limit.
        for flags in [libc::O_DIRECT, 0] {
            let mut options = std::fs::File::options();
            options.write(true).create(true).truncate(false);
            let Ok(file) = options
                .custom_flags(flags)
                .open(folder.path().join(format!("file{flags}")))
            else {
                let why = "a_write_past_the_limit_on_file_sizes_is_efbig: no O_DIRECT in TMPDIR";
                let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
                continue;
            };
            assert_eq!(written(file, 2 << 20), Err(EFBIG), "{flags:#x}");
        }
    });
}

/// Rule: SEC-6.
#[test]
fn a_write_to_a_pipe_without_a_reader_is_epipe() {
    in_child("a_write_to_a_pipe_without_a_reader_is_epipe", || {
        let_signal_kill(libc::SIGPIPE);
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        assert_eq!(written(writer, 0), Err(EPIPE));
        let (reader, writer) = UnixStream::pair().expect("sockets");
        drop(reader);
        assert_eq!(written(writer, 0), Err(EPIPE));
    });
}

/// For a caller's thread that drives an engine.
///
/// Rule: SEC-6.
#[test]
fn the_thread_of_a_caller_can_block_signals_too() {
    in_child("the_thread_of_a_caller_can_block_signals_too", || {
        let_signal_kill(libc::SIGPIPE);
        block_signals().expect("allowed");
        let mut tables = Tables::new(4096, 4096);
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let file = tables.files.insert(writer, Rights::WRITE).expect("fit");
        let pool = tables.pool;
        let mut rig = tables.on_transport(8, 4);
        let write = Request::write(file, 0, 4096).from_buffer(pool, 0);
        assert_eq!(rig.run(write), Err(EPIPE));
    });
}

/// Returns the signals that a thread of this process blocks, one bit each.
fn blocked(thread_id: u32) -> u64 {
    let mut status = String::new();
    let path = format!("/proc/self/task/{thread_id}/status");
    let mut file = std::fs::File::open(path).expect("procfs");
    file.read_to_string(&mut status).expect("text");
    let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    u64::from_str_radix(line.expect("its mask").trim(), 16).expect("hexadecimal")
}

fn check_mask(thread_id: u32) {
    let mask = blocked(thread_id);
    let has = |signal: libc::c_int| mask >> (signal - 1) & 1 == 1;
    for signal in 1..=libc::SIGRTMAX() {
        let of_the_libc = signal > 31 && signal < libc::SIGRTMIN();
        let taken = of_the_libc
            || matches!(
                signal,
                libc::SIGABRT
                    | libc::SIGBUS
                    | libc::SIGFPE
                    | libc::SIGILL
                    | libc::SIGKILL
                    | libc::SIGSEGV
                    | libc::SIGSTOP
                    | libc::SIGSYS
                    | libc::SIGTRAP
            );
        assert_eq!(has(signal), !taken, "signal {signal}");
    }
}

/// Rule: SEC-6.
#[test]
fn a_loop_thread_takes_only_the_signals_of_its_own_faults() {
    let (host, _device) = Queue::anonymous(layout(4)).expect("a queue");
    let io = Tables::new(16, 64).loop_on(host);
    check_mask(io.thread_id());
    io.stop().expect("a clean end");
    let (host, _device) = Queue::anonymous(layout(4)).expect("a queue");
    let group = LoopGroup::builder().queue(host).spawn().expect("io_uring");
    check_mask(group.thread_id(0).expect("a loop"));
    group.stop().expect("a clean end");
    assert_eq!(
        blocked(rustix::thread::gettid().as_raw_nonzero().get() as u32),
        0,
        "this thread's"
    );
}

#[test]
fn an_engine_blocks_nothing_by_itself() {
    let (host, _device) = Queue::anonymous(layout(4)).expect("a queue");
    let mut engine: Engine<_> = Tables::new(16, 64).engine(transport(8), vec![host]);
    assert_eq!(
        blocked(rustix::thread::gettid().as_raw_nonzero().get() as u32),
        0
    );
    engine.stop(LIMIT).expect("a clean end");
}

/// Signals interrupt a thread that drives an engine, asleep and at work. The thread of a loop blocks
/// them.
#[test]
fn signals_do_not_end_an_engine() {
    let_signals_interrupt();
    let mut tables = Tables::new(4096, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let (file, pool) = (tables.file, tables.pool);
    let (host, device) = Queue::anonymous(layout(64)).unwrap();
    let (started, thread_id) = std::sync::mpsc::channel();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut engine = tables.engine(transport(64), vec![host]);
            started
                .send(gettid().as_raw_nonzero().get() as u32)
                .unwrap();
            let end = Instant::now() + LIMIT;
            while !done.load(Ordering::Relaxed) && Instant::now() < end {
                if engine.step().is_idle() {
                    engine.wait(Duration::from_micros(100));
                }
            }
            assert_eq!(engine.failure(), None);
            engine.stop(LIMIT).unwrap();
        });
        let thread_id = thread_id.recv().unwrap();
        let asleep = device
            .submit(Request::read(pipe, 0, 4).into_buffer(pool, 64))
            .unwrap();
        for n in 0..500_u64 {
            signal(thread_id);
            let read = Request::read(file, n, 8).into_buffer(pool, 0);
            let ticket = device.submit(read).unwrap();
            signal(thread_id);
            assert_eq!(outcome_of(&device, ticket), Ok(8));
        }
        writer.write_all(b"data").unwrap();
        assert_eq!(outcome_of(&device, asleep), Ok(4));
        done.store(true, Ordering::Relaxed);
    });
}
