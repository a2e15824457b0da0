//! The sleep of the thread that owns a pool, and what ends it.
//!
//! No event is lost. Whoever has news sets a bit of the word, and then wakes the sleeper. The kernel
//! compares the word before it lets the thread sleep, so a bit that was set earlier ends the sleep at
//! once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Wake;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Timespec};

use crate::futex_word::FutexWord;
use crate::settings::UNHEARD;
use crate::wait_list::WaitList;

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
        self.take()
    }

    /// Lists the sleeper's word and others, for [`sleep_on`](Self::sleep_on).
    pub(super) fn list(&self, words: &[FutexWord]) -> WaitList {
        let addresses: Vec<usize> = words.iter().map(|word| word.as_ptr().addr()).collect();
        WaitList::new(&self.0, 0, &addresses)
    }

    /// Sleeps as [`sleep`](Self::sleep) does, and at most until another word of the list differs from its value or is
    /// woken.
    pub(super) fn sleep_on(
        &self,
        waits: &mut WaitList,
        expected: &[u32],
        limit: Option<Duration>,
    ) -> u32 {
        match waits.wait(expected.iter().copied(), limit) {
            // Early ends are allowed, as above.
            Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => self.take(),
            // The caller looks for what it would not be woken for.
            Err(_) => self.sleep(Some(limit.map_or(UNHEARD, |limit| limit.min(UNHEARD)))),
        }
    }

    /// Returns what has happened since the last sleep.
    fn take(&self) -> u32 {
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
