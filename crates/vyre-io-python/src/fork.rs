//! Forks of this process: they have its memory, but none of its threads.
#![expect(
    unsafe_code,
    reason = "pthread_atfork(3) is told of forks that Python does not make"
)]

use std::ffi::c_int;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The number of forks between the process that imported the module first and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" {
    fn pthread_atfork(
        prepare: Option<extern "C" fn()>,
        parent: Option<extern "C" fn()>,
        child: Option<extern "C" fn()>,
    ) -> c_int;
}

extern "C" fn in_child() {
    // Relaxed: the child has one thread.
    FORKS.fetch_add(1, Relaxed);
}

/// Has forks counted from now on.
pub(crate) fn watch() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        // Without memory for it, forks stay unnoticed.
        // SAFETY: the handler is async-signal-safe, and code of this module is never unloaded: Python unloads no
        // module.
        let _ = unsafe { pthread_atfork(None, None, Some(in_child)) };
    });
}

/// Returns a number that is another one in each child.
pub(crate) fn generation() -> u32 {
    // Relaxed: as in `in_child`.
    FORKS.load(Relaxed)
}
