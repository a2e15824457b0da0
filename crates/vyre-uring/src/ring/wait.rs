//! Wait: the thread sleeps until a completion can be reaped, a time is over or another thread
//! wakes it.

use std::os::fd::OwnedFd;
use std::task::Waker;
use std::time::{Duration, Instant};

use io_uring::types::Timespec;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::Ring;
use super::wake::WakeEvent;
use crate::completion::Token;
use crate::error::EnterError;
use crate::settings::UNHEARD;

/// The pause before the next submission when the kernel has no room for one.
pub(super) const BACK_OFF: Duration = Duration::from_micros(100);

impl Ring {
    /// Submits, then sleeps until a completion can be reaped or the timeout is over. Neither a
    /// timeout nor a signal is an error. Without a timeout the wait has no limit, but returns at
    /// once if nothing is in flight. The answer to a cancel request may end the wait early.
    ///
    /// # Errors
    /// [`EnterError::Fatal`], as for [`submit`](Self::submit).
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<(), EnterError> {
        self.wait_on(&[], timeout)
    }

    /// Waits as [`wait`](Self::wait) does, and also ends if a word of [`set_futexes`](Self::set_futexes) differs from
    /// its value in `expected` (as it is in memory), or if it is woken by FUTEX_WAKE, without FUTEX_PRIVATE_FLAG. No
    /// such wake-up is lost: one that comes before this call, and after the words were loaded, ends the wait. One that
    /// comes between two waits may end the next one. Without a timeout, the wait has no limit.
    ///
    /// # Errors
    /// [`EnterError::Fatal`], as for [`submit`](Self::submit).
    pub fn wait_on(
        &mut self,
        expected: &[u32],
        timeout: Option<Duration>,
    ) -> Result<(), EnterError> {
        self.check_poison()?;
        // A deadline too far away to be represented is no limit.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut left = deadline.and(timeout);
        loop {
            let idle = left.is_none() && self.tokens.len() == 0 && expected.is_empty();
            if idle || left == Some(Duration::ZERO) || self.is_ready() {
                return self.submit().map(drop);
            }
            let bounded = self.arm(left)?;
            if !expected.is_empty() && !self.arm_futexes(expected)? {
                // The caller looks for what it would not be woken for.
                return self.sleep(Some(bounded.map_or(UNHEARD, |left| left.min(UNHEARD))));
            }
            self.sleep(bounded)?;
            left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        }
    }

    /// Returns a waker by which another thread ends a [`wait`](Self::wait) early. If a wake-up comes
    /// between two waits, it ends the next one. A wait may also end without a wake-up. Returns `None`
    /// if the kernel made no eventfd.
    pub fn waker(&mut self) -> Option<Waker> {
        if self.wake.is_none() {
            self.wake = WakeEvent::new().ok();
        }
        self.wake.as_ref().map(WakeEvent::waker)
    }

    /// Returns another descriptor of the eventfd of the [`waker`](Self::waker). Who writes the number 1 to it, as 8
    /// bytes, ends a wait as the waker does. Another process can have it.
    pub fn wake_fd(&mut self) -> Option<OwnedFd> {
        self.waker()?;
        self.wake.as_ref()?.descriptor().ok()
    }

    /// Lets other threads end the coming sleep. Returns how long it may last, which is short if there
    /// was no room for the poll.
    fn arm(&mut self, left: Option<Duration>) -> Result<Option<Duration>, EnterError> {
        if self.wake.as_ref().is_none_or(WakeEvent::is_armed) {
            return Ok(left);
        }
        if self.kernel.sq.is_full() {
            self.submit()?;
        }
        match &mut self.wake {
            Some(wake) if !self.kernel.sq.is_full() => {
                let entry = wake.arm();
                self.enqueue(entry, Token::WAKE);
                Ok(left)
            }
            _ => Ok(Some(left.map_or(UNHEARD, |left| left.min(UNHEARD)))),
        }
    }

    /// Submits and sleeps until a completion is there or the time is over. May return early.
    pub(super) fn sleep(&mut self, left: Option<Duration>) -> Result<(), EnterError> {
        let queued = self.publish();
        let entered = match left {
            Some(left) if self.ext_arg => self.kernel.enter(queued, 1, Some(&Timespec::from(left))),
            None => self.kernel.enter(queued, 1, None),
            // Before Linux 5.11 a wait takes no time limit; but the ring can be polled.
            Some(left) => match self.kernel.enter(queued, 0, None) {
                Ok(_) => self.poll(left),
                Err(errno) => Err(errno),
            },
        };
        self.kernel.sq.sync();
        match entered {
            Ok(_) | Err(Errno::INTR | Errno::TIME) => Ok(()),
            Err(Errno::AGAIN | Errno::BUSY) => {
                if !self.is_ready() {
                    std::thread::sleep(left.map_or(BACK_OFF, |left| left.min(BACK_OFF)));
                }
                Ok(())
            }
            Err(errno) => Err(self.poison(errno)),
        }
    }

    fn poll(&self, left: Duration) -> Result<u32, Errno> {
        let limit = rustix::event::Timespec::try_from(left).ok();
        let ring = self.kernel.fd();
        poll(&mut [PollFd::new(&ring, PollFlags::IN)], limit.as_ref()).map(|_| 0)
    }
}
