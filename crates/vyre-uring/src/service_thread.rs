//! Threads that serve a transport.

use std::thread::{Builder, JoinHandle};

use nix::sys::signal::{SigSet, Signal};
use rustix::io::Errno;
use rustix::thread::CpuSet;

/// The stack of a thread. It makes system calls and little else.
const STACK: usize = 128 << 10;

/// Signals that report a fault of the thread itself. All others belong to other threads, or an
/// operation could raise them: SIGXFSZ, SIGPIPE.
const FAULTS: [Signal; 7] = [
    Signal::SIGABRT,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGSEGV,
    Signal::SIGSYS,
    Signal::SIGTRAP,
];

/// Starts a thread on these cores, or on those of the calling thread if there are none in the list. It blocks signals.
pub(crate) fn spawn(
    name: &str,
    cores: &[usize],
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, Errno> {
    let cores = cores.to_vec();
    let body = move || {
        let mut blocked = SigSet::all();
        FAULTS.into_iter().for_each(|signal| blocked.remove(signal));
        // Where a filter forbids that, the mask of the calling thread holds.
        let _ = blocked.thread_block();
        if !cores.is_empty() {
            let mut set = CpuSet::new();
            let known = cores.into_iter().filter(|&core| core < CpuSet::MAX_CPU);
            known.for_each(|core| set.set(core));
            // A failure costs speed at worst.
            let _ = rustix::thread::sched_setaffinity(None, &set);
        }
        run();
    };
    let builder = Builder::new().name(name.into()).stack_size(STACK);
    let refused = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN);
    builder.spawn(body).map_err(refused)
}
