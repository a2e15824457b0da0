//! The program's own handler of SIGBUS, and faults for it.
#![expect(
    unsafe_code,
    reason = "installs a signal handler, and maps memory that faults"
)]

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::mem::zeroed;
use std::os::fd::AsFd;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use libc::{SA_SIGINFO, SIGBUS, siginfo_t};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use rustix::param::page_size;

static HANDLED: AtomicU64 = AtomicU64::new(0);

/// Counts a fault, and maps a page where there is none.
extern "C" fn handler(_signal: c_int, info: *mut siginfo_t, _context: *mut c_void) {
    HANDLED.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the kernel passes valid information.
    let information = unsafe { &*info };
    // SAFETY: a fault has an address.
    let address = unsafe { information.si_addr() };
    let page = address.wrapping_byte_sub(address.addr() % page_size());
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::FIXED;
    // SAFETY: the page is one of `fault`, to which nothing refers.
    unsafe { mmap_anonymous(page, page_size(), protection, flags) }.expect("a page");
}

/// Installs the handler, once in the process. Every test calls it before anything else of the process can install one:
/// the tests may share the process, and a handler that came later would end page-cache reads.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(install_now);
}

fn install_now() {
    // SAFETY: zeros are a valid action.
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = SA_SIGINFO;
    // SAFETY: the handler calls nothing that is not safe in a signal handler.
    let result = unsafe { libc::sigaction(SIGBUS, &action, ptr::null_mut()) };
    assert_eq!(result, 0);
}

/// Returns the number of faults that the handler got.
pub(crate) fn handled() -> u64 {
    HANDLED.load(Ordering::SeqCst)
}

/// Reads memory behind the end of a file, which raises SIGBUS.
pub(crate) fn fault() {
    let file = File::from(memfd_create("own", MemfdFlags::empty()).expect("a memfd"));
    let (protection, flags) = (ProtFlags::READ, MapFlags::SHARED);
    // SAFETY: a new mapping touches no existing memory.
    let base = unsafe {
        mmap(
            ptr::null_mut(),
            page_size(),
            protection,
            flags,
            file.as_fd(),
            0,
        )
    };
    let base = base.expect("a mapping");
    // SAFETY: the page is mapped. The handler puts another one in its place.
    let byte = unsafe { base.cast::<u8>().read_volatile() };
    assert_eq!(byte, 0);
    // SAFETY: the mapping is this function's own, and nothing refers to it.
    unsafe { munmap(base, page_size()) }.expect("mapped");
}
