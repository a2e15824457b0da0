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
use rustix::thread::ClockId;
use rustix::thread::futex::{self, Flags, Timespec, Wait, WaitFlags, WaitPtr, WaitvFlags, waitv};

use crate::futex_word::FutexWord;

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

    /// Sleeps as [`sleep`](Self::sleep) does, and at most until another word of the list differs from its value or is
    /// woken.
    pub(super) fn sleep_on(&self, waits: &[Wait], limit: Option<Duration>) -> u32 {
        // The kernel takes the time of the clock, and no duration. A time too far away is no limit.
        let now = rustix::time::clock_gettime(ClockId::Monotonic);
        let end = limit.and_then(|limit| now.checked_add(Timespec::try_from(limit).ok()?));
        // Early ends are allowed, as above.
        let _ = waitv(waits, WaitvFlags::empty(), end.as_ref(), ClockId::Monotonic);
        self.take()
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

/// The sleeper's word and others, as futex_waitv(2) takes them. Empty if it has no others.
#[derive(Debug, Default)]
pub(super) struct WaitList(Vec<Wait>);

impl WaitList {
    /// The kernel's limit (`FUTEX_WAITV_MAX`).
    const MAX: usize = 128;

    /// Lists the words. Returns `None` if the kernel cannot wait on them: before Linux 5.16, where a sandbox forbids it,
    /// and if there are too many.
    pub(super) fn new(sleeper: &Sleeper, words: &[FutexWord]) -> Option<Self> {
        // No words are an invalid argument to a kernel that has the call.
        let trial = waitv(&[], WaitvFlags::empty(), None, ClockId::Monotonic);
        if trial != Err(Errno::INVAL) || words.len() >= Self::MAX {
            return None;
        }
        let own = entry(sleeper.0.as_ptr(), WaitFlags::SIZE_U32 | WaitFlags::PRIVATE);
        let others = words
            .iter()
            .map(|word| entry(word.as_ptr().cast_mut(), WaitFlags::SIZE_U32));
        Some(Self(std::iter::once(own).chain(others).collect()))
    }

    /// Returns the list with the expected values of the other words. The sleeper's own word is expected to be zero.
    pub(super) fn of(&mut self, expected: &[u32]) -> &[Wait] {
        for (wait, &expected) in self.0.iter_mut().skip(1).zip(expected) {
            wait.val = expected.into();
        }
        let listed = (1 + expected.len()).min(self.0.len());
        &self.0[..listed]
    }
}

fn entry(word: *mut u32, flags: WaitFlags) -> Wait {
    let mut wait = Wait::new();
    wait.uaddr = WaitPtr::new(word.cast());
    wait.flags = flags;
    wait
}
