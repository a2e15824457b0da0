//! The signal mask of a loop's thread.

use nix::sys::signal::{SigSet, Signal};

/// The signals that stay unblocked, because they report a fault of the thread itself or end the process
/// on purpose. The others belong to other threads, or a device could raise them: SIGXFSZ by a WRITE
/// past RLIMIT_FSIZE, SIGPIPE by a WRITE to a pipe without a reader, SIGTTIN and SIGTTOU at a terminal.
const KEPT: [Signal; 7] = [
    Signal::SIGABRT,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGSEGV,
    Signal::SIGSYS,
    Signal::SIGTRAP,
];

/// Blocks signals in the calling thread, as every loop does in its own thread: all except SIGABRT,
/// SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS and SIGTRAP.
///
/// Call it in threads that drive an [`Engine`](crate::Engine). The kernel sends some signals to the
/// thread that makes a transfer, and by default they end the process: SIGXFSZ if a write passes the
/// process's limit on file sizes, SIGPIPE if a pipe or socket has no reader. If they are blocked, the
/// device gets the errno instead: EFBIG or EPIPE.
///
/// Threads that the caller spawns afterwards inherit the mask. Signals to the process are delivered to
/// its other threads.
///
/// # Errors
/// The kernel's errno, if a seccomp filter forbids `rt_sigprocmask`.
pub fn block_signals() -> std::io::Result<()> {
    let mut blocked = SigSet::all();
    for signal in KEPT {
        blocked.remove(signal);
    }
    Ok(blocked.thread_block()?)
}
