//! futex(2) on a word that is named by its address. The wrappers of `rustix` take references, and there must be none to
//! memory that another process writes.
#![expect(unsafe_code, reason = "calls futex(2) on an address")]

use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex::Timespec;

/// Waits until the word differs from its expected value or is woken, also by another process.
pub(super) fn wait(word: usize, expected: u32, limit: Duration) -> Result<(), Errno> {
    let limit = Timespec {
        tv_sec: limit.as_secs() as i64,
        tv_nsec: limit.subsec_nanos().into(),
    };
    call(word, libc::FUTEX_WAIT, expected, Some(&limit))
}

/// Wakes whoever waits on the word.
pub(super) fn wake(word: usize) {
    // An address that nothing is mapped at any more has no waiters.
    let _ = call(word, libc::FUTEX_WAKE, i32::MAX as u32, None);
}

fn call(word: usize, op: i32, value: u32, limit: Option<&Timespec>) -> Result<(), Errno> {
    let limit = limit.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the kernel checks the address of the word, and only loads from it. The limit is null or lives through the
    // call; `Timespec` is the kernel's `timespec64`, as it is on every 64-bit target.
    let done = unsafe { libc::syscall(libc::SYS_futex, word, op, value, limit) };
    match done {
        -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
        _ => Ok(()),
    }
}
