//! Tests that no request of a device raises a signal that ends the host, and that signals from others
//! do not disturb a loop.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use rustix::process::{Resource, Rlimit, setrlimit};
use vyre_faults::rig::{Parts, ask, queue};
use vyre_faults::{Need, Scene, Test, eventually, tests};
use vyre_ioloop::{IoLoop, LoopGroup, LoopOptions, Rights, WaitPolicy};
use vyre_ioq::{Errno, Request};
use vyre_uring::{Buffer, BufferError};

use crate::raw;

pub(crate) const TESTS: &[Test] = tests![
    a_write_past_the_file_size_limit_is_efbig: [],
    a_write_past_the_file_size_limit_of_a_tmpfs_is_efbig: [Need::Tmpfs { at: "tmpfs", mib: 16 }],
    a_write_to_a_pipe_without_a_reader_is_epipe: [],
    a_write_to_a_socket_without_a_peer_is_epipe: [],
    a_memfd_past_the_file_size_limit_is_refused: [],
    the_threads_of_loops_block_signals_from_others: [],
    many_signals_disturb_no_request: [],
];

const LIMIT: u64 = 1 << 20;
const EFBIG: Errno = Errno::from_raw(27);
const EPIPE: Errno = Errno::from_raw(32);

/// Limits the size of files of this process to `LIMIT`.
fn limit_files() {
    let limit = Rlimit {
        current: Some(LIMIT),
        maximum: Some(LIMIT),
    };
    setrlimit(Resource::Fsize, limit).unwrap();
}

fn writes_past_the_limit_are_efbig(dir: &std::path::Path) {
    for flags in [0, libc::O_DIRECT] {
        let mut options = File::options();
        options
            .read(true)
            .write(true)
            .custom_flags(flags | libc::O_TMPFILE);
        let Ok(file) = options.open(dir) else {
            assert_ne!(flags, 0, "no file without a name");
            continue;
        };
        let mut parts = Parts::new(1 << 20);
        let file = parts.file(file);
        let pool = parts.pool;
        let (host, device) = queue(8);
        let io = parts.builder().queue(host).spawn().unwrap();
        let write = |at, count| Request::write(file, at, count).from_buffer(pool, 0);
        assert_eq!(ask(&device, write(LIMIT, 4096)), Err(EFBIG));
        assert_eq!(ask(&device, write(LIMIT, 4096).durable()), Err(EFBIG));
        assert_eq!(
            ask(&device, write(LIMIT - 4096, 8192)),
            Ok(4096),
            "up to the limit"
        );
        assert_eq!(ask(&device, write(0, 4096)), Ok(4096));
        assert_eq!(ask(&device, Request::sync(file)), Ok(0));
        io.stop().unwrap();
    }
}

/// Rule: SEC-6.
fn a_write_past_the_file_size_limit_is_efbig(scene: &Scene) {
    limit_files();
    writes_past_the_limit_are_efbig(&scene.path(""));
}

/// Rule: SEC-6.
fn a_write_past_the_file_size_limit_of_a_tmpfs_is_efbig(scene: &Scene) {
    limit_files();
    writes_past_the_limit_are_efbig(&scene.path("tmpfs"));
}

fn check_epipe(scene: &Scene, writer: impl Into<std::os::fd::OwnedFd>) {
    raw::die_by_sigpipe();
    let mut parts = Parts::new(4096);
    let writer = parts.files.insert(writer, Rights::WRITE).unwrap();
    let file = parts.file(scene.healthy(4096));
    let pool = parts.pool;
    let (host, device) = queue(8);
    let io = parts.builder().queue(host).spawn().unwrap();
    assert_eq!(
        ask(&device, Request::write(writer, 0, 64).from_buffer(pool, 0)),
        Err(EPIPE)
    );
    assert_eq!(
        ask(&device, Request::read(file, 0, 64).into_buffer(pool, 0)),
        Ok(64)
    );
    io.stop().unwrap();
}

/// Rule: SEC-6.
fn a_write_to_a_pipe_without_a_reader_is_epipe(scene: &Scene) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    check_epipe(scene, writer);
}

/// Rule: SEC-6.
fn a_write_to_a_socket_without_a_peer_is_epipe(scene: &Scene) {
    let (peer, writer) = UnixStream::pair().unwrap();
    drop(peer);
    check_epipe(scene, writer);
}

fn a_memfd_past_the_file_size_limit_is_refused(_: &Scene) {
    limit_files();
    let refused = Buffer::memfd(2 * LIMIT as usize);
    assert!(
        matches!(refused, Err(BufferError::Resize { .. })),
        "{refused:?}"
    );
    assert!(Buffer::memfd(LIMIT as usize).is_ok());
}

/// Returns the signals that a thread blocks, as in `/proc`: signal N is bit N - 1.
fn blocked(thread: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
}

/// Rule: SEC-6.
fn the_threads_of_loops_block_signals_from_others(_: &Scene) {
    use Signal::*;
    let blocked_by = |thread: u32, of: &[Signal]| -> Vec<Signal> {
        let mask = blocked(thread);
        of.iter()
            .copied()
            .filter(|&signal| mask >> (signal as u32 - 1) & 1 == 1)
            .collect()
    };
    let of_others = [
        SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGALRM, SIGTERM, SIGUSR1, SIGUSR2, SIGCHLD, SIGTSTP,
        SIGTTIN, SIGTTOU, SIGURG, SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF, SIGWINCH, SIGIO,
    ];
    // Signals of the thread itself: a debugger, a sanitizer or the standard library needs these.
    let of_itself = [SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGSYS];
    let check = |thread: u32| {
        assert_eq!(blocked_by(thread, &of_others), of_others);
        assert_eq!(blocked_by(thread, &of_itself), []);
    };
    let ((host0, _one), (host1, _two), (host2, _three)) = (queue(4), queue(4), queue(4));
    let io = IoLoop::builder().queue(host0).spawn().unwrap();
    check(io.thread_id());
    let group = LoopGroup::builder()
        .loops(2)
        .queue(host1)
        .queue(host2)
        .spawn()
        .unwrap();
    (0..2).for_each(|index| check(group.thread_id(index).unwrap()));
    assert_eq!(
        blocked_by(rustix::thread::gettid().as_raw_pid() as u32, &of_others),
        []
    );
    io.stop().unwrap();
    group.stop().unwrap();
}

fn many_signals_disturb_no_request(scene: &Scene) {
    const SIGNALS: u32 = 20_000;
    const ROUNDS: u64 = 500;
    raw::interrupt_by(Signal::SIGPROF);
    raw::interrupt_by(Signal::SIGUSR1);
    for policy in [WaitPolicy::Spin, WaitPolicy::default()] {
        let mut parts = Parts::new(1 << 20);
        let file = parts.file(scene.healthy(1 << 20));
        let pool = parts.pool;
        let (host, device) = queue(8);
        let io = parts
            .builder()
            .options(LoopOptions::new().wait_policy(policy))
            .queue(host)
            .spawn()
            .unwrap();
        let thread = io.thread_id();
        let calm = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for index in 0..SIGNALS {
                    let signal = [Signal::SIGPROF, Signal::SIGUSR1][index as usize % 2];
                    raw::send(thread, signal);
                    raw::send(std::process::id(), signal);
                }
                calm.store(true, Ordering::Relaxed);
            });
            for round in 0..ROUNDS {
                let at = round * 2048;
                let read = Request::read(file, at, 2048).into_buffer(pool, at).exact();
                assert_eq!(ask(&device, read), Ok(2048));
                let write = Request::write(file, at, 2048).from_buffer(pool, at).exact();
                assert_eq!(ask(&device, write), Ok(2048));
                assert_eq!(ask(&device, Request::sync(file)), Ok(0));
            }
            eventually("the end of the storm", || calm.load(Ordering::Relaxed));
        });
        io.stop().unwrap();
    }
}
