//! The sleep of the thread that owns a pool, and what ends it.
//!
//! No event is lost. Whoever has news sets a bit of the word, and then wakes the sleeper. The kernel
//! compares the word before it lets the thread sleep, so a bit that was set earlier ends the sleep at
//! once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Wake;
use std::time::Duration;

use rustix::thread::futex::{self, Flags, Timespec};

/// An operation has completed.
pub(super) const COMPLETED: u32 = 1;

/// Another thread has called the waker.
pub(super) const WOKEN: u32 = 2;

/// A word that is zero while nothing has happened.
#[derive(Debug, Default)]
pub(super) struct Sleeper(AtomicU32);

impl Sleeper {
    /// Ends the sleep, or the next one if the thread does not sleep.
    pub(super) fn notify(&self, event: u32) {
        // Release: pairs with the swap in `sleep`, so that the owner sees what led to the event.
        if self.0.fetch_or(event, Ordering::Release) == 0 {
            // Cannot fail: the word is there.
            let _ = futex::wake(&self.0, Flags::PRIVATE, 1);
        }
    }

    /// Sleeps until something happens or the time is over, and returns what has happened since the
    /// last sleep. May return early.
    pub(super) fn sleep(&self, limit: Option<Duration>) -> u32 {
        // A time too long to be represented is no limit.
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        // Early ends are allowed: a signal, a bit that is set already, the time.
        let _ = futex::wait(&self.0, Flags::PRIVATE, 0, limit.as_ref());
        // Acquire: pairs with the fetch_or in `notify`.
        self.0.swap(0, Ordering::Acquire)
    }
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.notify(WOKEN);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.notify(WOKEN);
    }
}
