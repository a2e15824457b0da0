//! Things of a GPU, given back by threads of their own: that waits for running kernels, and whoever drops an array may hold
//! the interpreter's lock.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

/// Set at the interpreter's exit, when the driver may be gone. The kernel then gives back what is pinned.
static IS_EXITING: AtomicBool = AtomicBool::new(false);

pub(crate) fn begin_exit() {
    // Relaxed: it guards no other memory.
    IS_EXITING.store(true, Relaxed);
}

pub(crate) fn is_exiting() -> bool {
    // Relaxed: as in `begin_exit`.
    IS_EXITING.load(Relaxed)
}

/// Something of a GPU, which a thread gives back.
#[derive(Debug)]
pub(crate) struct GivenBack<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> GivenBack<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// `None` only while it is dropped.
    pub(crate) const fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

impl<T: Send + 'static> Drop for GivenBack<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        if is_exiting() {
            std::mem::forget(value);
            return;
        }
        let thread = thread::Builder::new().name("vyre-view-end".to_owned());
        // Without a thread, it is given back here.
        let _ = thread.spawn(move || drop(value));
    }
}
