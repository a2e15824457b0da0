//! All unsafe code of the crate: a mapping, a copy out of it that survives SIGBUS, and the handler.
//!
//! # Why the copy is sound
//!
//! A copy out of a mapping of a file faults where the file has no page any more, or where a page cannot
//! be read. The kernel then sends SIGBUS to the thread, with the address in `si_addr` and the
//! interrupted registers in the context. The argument has four steps.
//!
//! 1. **No Rust code accesses the mapped bytes.** [`copy`] is a naked function. The compiler knows
//!    nothing of its instructions, no reference to the bytes exists, and bytes that change during the
//!    copy arrive with their old or their new value.
//! 2. **The handler recognizes a fault of the copy beyond doubt.** The signal must be one that the
//!    kernel sends for an access. The interrupted instruction must lie between two labels in [`copy`],
//!    which no other code executes. The address must lie in the mapping, whose bounds [`copy`] keeps in
//!    two registers that it does not change. A fault at the destination, and a signal that a process
//!    sent, fail this test.
//! 3. **The handler changes one register.** It sets the program counter to the second label. Between the
//!    labels, one register always holds the number of bytes that are still to be copied; at the second
//!    label, this number becomes the result. Nothing lies on the stack, so there is nothing to unwind.
//!    The kernel restores all other registers when the handler returns.
//! 4. **Every other signal goes to the action that was installed before,** under the signal mask that
//!    this action asks for. If that was the default, the signal is sent again with the same
//!    information, and ends the process as it would have done.
//!
//! A fault ends the process if the thread blocks SIGBUS, or if another handler has replaced this one and
//! does not forward. [`check`] finds both. Neither is undefined behaviour.
//!
//! For its own faults the handler makes no call into the C library, so `errno` stays as it is.
#![expect(
    unsafe_code,
    reason = "maps files, copies out of the mappings and handles SIGBUS"
)]

use std::ffi::{c_int, c_void};
use std::mem::zeroed;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{SIGBUS, sigaction, siginfo_t};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use rustix::param::page_size;

use crate::arch::{AVAILABLE, copy, interrupted, prefetch};
use crate::error::RecoveryError;

/// A read-only shared mapping of whole pages, unmapped on drop.
#[derive(Debug)]
pub(crate) struct Pages {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread. Its bytes are only read, by a function that
// the compiler does not look into, which is the same on every thread.
unsafe impl Send for Pages {}
// SAFETY: as above; no method writes to the bytes or changes the fields.
unsafe impl Sync for Pages {}

impl Pages {
    /// Maps `len` bytes of a file from `offset` on, which is a multiple of the page size.
    pub(crate) fn map(file: BorrowedFd<'_>, offset: u64, len: usize) -> Result<Self, Errno> {
        // SAFETY: a new mapping at an address that the kernel chooses touches no existing memory.
        let base = unsafe {
            mmap(
                ptr::null_mut(),
                len,
                ProtFlags::READ,
                MapFlags::SHARED,
                file,
                offset,
            )
        }?;
        let base = NonNull::new(base.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { base, len })
    }

    /// Has the kernel read the pages of a part of the mapping and map them, or reports why not.
    pub(crate) fn populate(&self, offset: usize, len: usize) -> Result<(), Errno> {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        let start = self.base.as_ptr().wrapping_add(offset).cast();
        // SAFETY: the range is inside the mapping, and the advice leaves its bytes alone.
        unsafe { madvise(start, len, Advice::LinuxPopulateRead) }
    }

    /// Returns the number of pages.
    pub(crate) fn count(&self) -> usize {
        self.len / page_size()
    }

    /// Returns the number of bytes.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Returns the address of the first page, as a pointer to it.
    pub(crate) const fn as_ptr(&self) -> *const u8 {
        self.base.as_ptr()
    }

    /// Returns the address of the first page.
    pub(crate) fn address(&self) -> usize {
        self.base.addr().get()
    }

    /// Stores, for each page from `first` on, a byte whose lowest bit says whether the page is in the
    /// page cache.
    pub(crate) fn in_page_cache(&self, first: usize, pages: &mut [u8]) -> Result<(), Errno> {
        assert!(
            first
                .checked_add(pages.len())
                .is_some_and(|end| end <= self.count())
        );
        let start = self.base.as_ptr().wrapping_add(first * page_size());
        let len = pages.len() * page_size();
        // SAFETY: the range is inside the mapping, and the call writes one byte for each of its pages.
        let result = unsafe { libc::mincore(start.cast(), len, pages.as_mut_ptr()) };
        if result == 0 {
            Ok(())
        } else {
            Err(last_errno())
        }
    }

    /// Loads the lines of a part of the mapping into the processor's cache.
    #[inline]
    pub(crate) fn prefetch(&self, offset: usize, len: usize) {
        prefetch(self.base.as_ptr().wrapping_add(offset), len);
    }

    /// Copies bytes from `offset` on to all of a slice. Returns how many were not copied because of a
    /// SIGBUS.
    #[inline]
    pub(crate) fn copy_to_slice(&self, offset: usize, destination: &mut [u8]) -> usize {
        let len = destination.len();
        // SAFETY: the slice is borrowed exclusively.
        unsafe { self.copy_out(offset, len, NonNull::from(destination).cast()) }
    }

    /// Copies `len` bytes from `offset` on. Returns how many were not copied because of a SIGBUS, so
    /// zero for a copy that is complete.
    ///
    /// # Safety
    /// `destination` is valid for writes of `len` bytes, which no other code accesses meanwhile except
    /// by atomic operations or outside this process.
    #[inline]
    pub(crate) unsafe fn copy_out(
        &self,
        offset: usize,
        len: usize,
        destination: NonNull<u8>,
    ) -> usize {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        let source = self.base.as_ptr().wrapping_add(offset);
        let start = self.base.addr().get();
        // SAFETY: the source is inside the mapping, which lives as long as `self` is borrowed; the
        // caller vouches for the destination, which is not null. A fault is handled as argued above.
        let (left, _) =
            unsafe { copy(destination.as_ptr(), source, start, len, start + self.len) }.into();
        left
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: this value alone owns the mapping, and nothing borrows from it any more.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "munmap of an owned mapping: {unmapped:?}");
    }
}

/// The action of SIGBUS before the handler was installed. Null stands for the default action.
static PREVIOUS: AtomicPtr<sigaction> = AtomicPtr::new(ptr::null_mut());

/// Installs the handler, once in the life of the process.
pub(crate) fn install() -> Result<(), RecoveryError> {
    static INSTALLED: OnceLock<Result<(), Errno>> = OnceLock::new();
    if !AVAILABLE {
        return Err(RecoveryError::Unavailable);
    }
    INSTALLED
        .get_or_init(|| {
            let previous = current()?;
            // Stored first: a foreign fault may come as soon as the handler is installed.
            set_previous(previous);
            let mut ours = previous;
            ours.sa_sigaction = handler();
            // The mask, and whether SIGBUS is blocked, stay as the previous action asks for.
            ours.sa_flags = libc::SA_SIGINFO
                | libc::SA_ONSTACK
                | ours.sa_flags & (libc::SA_NODEFER | libc::SA_RESTART);
            if previous.sa_sigaction == libc::SIG_IGN {
                // A signal that is ignored interrupts no system call.
                ours.sa_flags |= libc::SA_RESTART;
            }
            let replaced = replace(&ours)?;
            if (replaced.sa_sigaction, replaced.sa_flags)
                != (previous.sa_sigaction, previous.sa_flags)
            {
                // Another thread may have changed the action in between.
                set_previous(replaced);
            }
            Ok(())
        })
        .map_err(RecoveryError::Install)
}

/// Checks that the calling thread does not block SIGBUS and that the handler is installed.
pub(crate) fn check() -> Result<(), RecoveryError> {
    // SAFETY: a signal set is an array of integers, for which zeros are valid.
    let mut blocked: libc::sigset_t = unsafe { zeroed() };
    // SAFETY: without a new mask the call only writes the present one to `blocked`.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &mut blocked) };
    // SAFETY: the set was initialized above.
    if unsafe { libc::sigismember(&blocked, SIGBUS) } != 0 {
        return Err(RecoveryError::Blocked);
    }
    match current() {
        Ok(action) if action.sa_sigaction == handler() => Ok(()),
        _ => Err(RecoveryError::Replaced),
    }
}

fn handler() -> usize {
    on_sigbus as *const () as usize
}

fn set_previous(action: sigaction) {
    // Leaked, since a handler on another thread may read it at any time. Release: the handler's Acquire
    // load in `forward` sees the fields.
    PREVIOUS.store(Box::into_raw(Box::new(action)), Ordering::Release);
}

/// Returns the present action of SIGBUS.
fn current() -> Result<sigaction, Errno> {
    // SAFETY: the struct consists of integers and an optional function, for which zeros are valid.
    let mut action: sigaction = unsafe { zeroed() };
    // SAFETY: without a new action the call only writes the present one.
    let result = unsafe { libc::sigaction(SIGBUS, ptr::null(), &mut action) };
    if result == 0 {
        Ok(action)
    } else {
        Err(last_errno())
    }
}

/// Installs an action of SIGBUS. Returns the one before.
fn replace(action: &sigaction) -> Result<sigaction, Errno> {
    // SAFETY: as in `current`.
    let mut before: sigaction = unsafe { zeroed() };
    // SAFETY: the action's function is `on_sigbus`, which keeps the rules of signal handlers: it
    // accesses atomics, the signal's information and its context, and makes system calls.
    let result = unsafe { libc::sigaction(SIGBUS, action, &mut before) };
    if result == 0 {
        Ok(before)
    } else {
        Err(last_errno())
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Handles SIGBUS: continues the copy at its end if the fault is the copy's, else forwards the signal.
extern "C" fn on_sigbus(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the handler was installed with SA_SIGINFO, so the kernel passes valid information, which
    // is this thread's own.
    let information = unsafe { &*info };
    let code = information.si_code;
    if is_access(code) {
        // SAFETY: for these codes `si_addr` is the member of the union that is in use.
        let address = unsafe { information.si_addr() }.addr();
        // SAFETY: likewise, the kernel passes the context of this thread.
        if unsafe { interrupted(context, address) } {
            return;
        }
    }
    // SAFETY: the arguments are those that the kernel passed.
    unsafe { forward(signal, code, info, context) };
}

/// Returns whether the kernel sent a SIGBUS with this code for an access of the thread.
fn is_access(code: c_int) -> bool {
    matches!(
        code,
        libc::BUS_ADRALN | libc::BUS_ADRERR | libc::BUS_OBJERR | libc::BUS_MCEERR_AR
    )
}

/// Has the previous action handle a signal.
///
/// # Safety
/// The arguments are those of the signal that is being handled.
unsafe fn forward(signal: c_int, code: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // Acquire: pairs with the Release store in `set_previous`.
    let previous = PREVIOUS.load(Ordering::Acquire);
    // SAFETY: the pointer is null or came from a box that is never freed.
    let action = unsafe { previous.as_ref() };
    let (function, flags) = action.map_or((libc::SIG_DFL, 0), |it| (it.sa_sigaction, it.sa_flags));
    match function {
        // The kernel ignores no signal of an access.
        libc::SIG_IGN if !is_access(code) => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: the information is that of this signal, as the caller vouches.
            unsafe { end_process(signal, code, info) };
        }
        function => {
            if flags & libc::SA_RESETHAND != 0 {
                // Release: nothing is published; null needs no partner.
                PREVIOUS.store(ptr::null_mut(), Ordering::Release);
            }
            if flags & libc::SA_SIGINFO != 0 {
                // SAFETY: an action with SA_SIGINFO names a function of three arguments.
                let function: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                    unsafe { std::mem::transmute(function) };
                function(signal, info, context);
            } else {
                // SAFETY: an action without SA_SIGINFO names a function of one argument.
                let function: extern "C" fn(c_int) = unsafe { std::mem::transmute(function) };
                function(signal);
            }
        }
    }
}

/// Ends the process by the signal, as the default action does: it is sent to this thread again, with
/// the same information, and arrives when the handler returns.
///
/// # Safety
/// `info` is the information of the signal that is being handled.
unsafe fn end_process(signal: c_int, code: c_int, info: *mut siginfo_t) {
    // SAFETY: the call takes no pointer.
    let process = unsafe { libc::getpid() };
    if process == 1 && !is_access(code) {
        // The default action of the first process of a container ignores signals of processes. It would
        // take our handler away, and the process would run on without.
        return;
    }
    // SAFETY: zeros are valid, and stand for the default action with an empty mask.
    let default: sigaction = unsafe { zeroed() };
    // SAFETY: the default action names no function.
    unsafe { libc::sigaction(signal, &default, ptr::null_mut()) };
    // SAFETY: the call takes no pointer.
    let thread = unsafe { libc::syscall(libc::SYS_gettid) };
    // SAFETY: the kernel reads the information, which is valid, and delivers a signal of this process to
    // this process.
    let sent = unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, signal, info) };
    if sent != 0 {
        // A sandbox may forbid the call.
        // SAFETY: the call takes no pointer.
        unsafe { libc::raise(signal) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::panic::catch_unwind;

    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn a_copy_of_bytes_outside_the_mapping_is_not_begun() {
        let memfd = memfd_create("vyre-mapped", MemfdFlags::empty()).unwrap();
        ftruncate(&memfd, page_size() as u64).unwrap();
        let pages = Pages::map(memfd.as_fd(), 0, page_size()).unwrap();
        for offset in [page_size(), page_size() - 7, usize::MAX] {
            let copy = catch_unwind(|| pages.copy_to_slice(offset, &mut [0; 8]));
            assert!(copy.is_err(), "{offset}");
        }
        assert_eq!(pages.copy_to_slice(page_size() - 8, &mut [0; 8]), 0);
    }
}
