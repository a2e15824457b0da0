//! System calls for which no crate in use has a safe function.
#![expect(
    unsafe_code,
    reason = "tests install signal handlers and query the page cache"
)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};

/// Gives SIGPIPE its default action, as in a C program: Rust ignores it.
pub(crate) fn die_by_sigpipe() {
    let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action runs no code of this process.
    unsafe { nix::sys::signal::sigaction(Signal::SIGPIPE, &action) }.expect("SIGPIPE has one");
}

extern "C" fn do_nothing(_: libc::c_int) {}

/// Installs a signal handler that does nothing, without restarting the call that it interrupts.
pub(crate) fn interrupt_by(signal: Signal) {
    let handler = SigHandler::Handler(do_nothing);
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler touches nothing, so it may interrupt anything.
    unsafe { nix::sys::signal::sigaction(signal, &action) }.expect("it can be caught");
}

/// Sends a signal to one thread of this process. It must have a handler.
pub(crate) fn send(thread: u32, signal: Signal) {
    let process = std::process::id() as libc::pid_t;
    let (thread, signal) = (thread as libc::pid_t, signal as libc::c_int);
    // SAFETY: a system call on numbers alone.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
}

/// Returns the number of bytes of a file that are in the page cache, in whole pages. Reads none in.
pub(crate) fn resident(file: &File, len: usize) -> usize {
    let page = rustix::param::page_size();
    let mut pages = vec![0_u8; len.div_ceil(page)];
    let (read, shared) = (libc::PROT_READ, libc::MAP_SHARED);
    // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
    let base = unsafe { libc::mmap(ptr::null_mut(), len, read, shared, file.as_raw_fd(), 0) };
    assert_ne!(
        base,
        libc::MAP_FAILED,
        "{}",
        std::io::Error::last_os_error()
    );
    // SAFETY: the range is the mapping's, and the vector has a byte for each of its pages.
    let seen = unsafe { libc::mincore(base, len, pages.as_mut_ptr()) };
    // SAFETY: the mapping is this function's own, and nothing points into it.
    let unmapped = unsafe { libc::munmap(base, len) };
    assert_eq!((seen, unmapped), (0, 0));
    pages.iter().filter(|page| **page & 1 == 1).count() * page
}
