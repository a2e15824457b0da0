//! Entering the kernel: submit, sleep, cancel all; and what to do when that fails.

use std::time::{Duration, Instant};

use io_uring::opcode;
use io_uring::types::Timespec;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::Ring;
use super::wake::Alarm;
use crate::error::{Busy, EnterError};
use crate::operation::Token;

/// How long to leave the kernel alone when it has no room for submissions.
const BACK_OFF: Duration = Duration::from_micros(100);

/// How long to wait for cancelled operations before cancelling again those that were missed.
const CANCEL_AGAIN: Duration = Duration::from_millis(20);

/// Longest sleep that another thread could not end.
const UNARMED: Duration = Duration::from_millis(1);

impl Ring {
    /// Submits the queued operations and cancel requests without waiting for any of them. Returns how
    /// many entries the kernel took; those that it has no room for stay queued for the next call.
    ///
    /// # Errors
    /// [`EnterError::Fatal`] if the kernel refuses every entry for good, now or in an earlier call.
    /// The operations that it had not taken complete with that errno.
    #[inline]
    pub fn submit(&mut self) -> Result<u32, EnterError> {
        self.check_poison()?;
        let mut taken = 0;
        while !self.raw.sq.is_empty() {
            let before = self.publish();
            let entered = self.raw.enter(before, 0, None);
            // The head tells what was taken even when the call says nothing but an error.
            self.raw.sq.sync();
            taken += before - self.raw.sq.len() as u32;
            match entered {
                Ok(0) | Err(Errno::AGAIN | Errno::BUSY) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(self.poison(errno)),
            }
        }
        Ok(taken)
    }

    /// Shows the kernel what is queued; returns how much that is, or zero if it shall have nothing.
    #[inline]
    fn publish(&mut self) -> u32 {
        self.raw.sq.sync();
        if self.poisoned.is_some() {
            0
        } else {
            self.raw.sq.len() as u32
        }
    }

    /// Marks the ring as failed, and answers for what the kernel has not taken.
    #[cold]
    pub(super) fn poison(&mut self, errno: Errno) -> EnterError {
        self.poisoned = Some(errno);
        let untaken = self.raw.sq.len() as u32;
        let mask = self.queued.len() as u32 - 1;
        for back in (1..=untaken).rev() {
            let token = Token(self.queued[(self.pushed.wrapping_sub(back) & mask) as usize]);
            if token == Token::ALARM {
                self.settle_other(token);
            } else if token.is_cancel() {
                self.cancels = self.cancels.saturating_sub(1);
            } else {
                self.stash(token.0, -errno.raw_os_error());
            }
        }
        EnterError::Fatal(errno)
    }

    /// Keeps an outcome for the next reap.
    pub(super) fn stash(&mut self, user_data: u64, res: i32) {
        match self.slab.get_mut(Token(user_data)) {
            // Each operation in flight is stashed once, so the room made at set-up is enough.
            Some(entry) if !entry.done => {
                entry.done = true;
                self.stashed.push_back((user_data, res));
            }
            _ => self.settle_other(Token(user_data)),
        }
    }

    /// Runs the work that the kernel has put off for this thread, then looks at the queue again.
    #[cold]
    pub(super) fn run_deferred(&mut self) {
        match self.raw.enter(0, 0, None) {
            // What is still flagged is run by the next call.
            Ok(_) | Err(Errno::INTR | Errno::AGAIN | Errno::BUSY) => {}
            Err(errno) if self.poisoned.is_none() => {
                self.raw.sq.sync();
                // The stashed outcomes are seen by the next reap, the error by the next submit.
                let _ = self.poison(errno);
            }
            Err(_) => {}
        }
        self.raw.cq.sync();
    }

    /// Whether the next reap has something to look at.
    fn is_ready(&mut self) -> bool {
        self.raw.cq.sync();
        !self.stashed.is_empty() || !self.raw.cq.is_empty()
    }

    /// Submits, then sleeps until a completion can be reaped or the time is over. Neither a timeout
    /// nor a signal is an error. Without a timeout the wait is unlimited, but returns at once if
    /// nothing is in flight. The answer to a cancel request may end the wait early.
    ///
    /// # Errors
    /// As for [`submit`](Self::submit).
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<(), EnterError> {
        self.check_poison()?;
        // A time too far away to be named is no limit.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut left = deadline.and(timeout);
        loop {
            let idle = left.is_none() && self.slab.live() == 0;
            if idle || left == Some(Duration::ZERO) || self.is_ready() {
                return self.submit().map(drop);
            }
            let bounded = self.arm(left)?;
            self.sleep(bounded)?;
            left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        }
    }

    /// Lets other threads end the coming sleep. Returns how long that may be: it is short if there
    /// was no room for the poll.
    fn arm(&mut self, left: Option<Duration>) -> Result<Option<Duration>, EnterError> {
        if self.alarm.as_ref().is_none_or(Alarm::is_armed) {
            return Ok(left);
        }
        if self.raw.sq.is_full() {
            self.submit()?;
        }
        match &mut self.alarm {
            Some(alarm) if !self.raw.sq.is_full() => {
                let entry = alarm.arm();
                self.enqueue(entry, Token::ALARM);
                Ok(left)
            }
            _ => Ok(Some(left.map_or(UNARMED, |left| left.min(UNARMED)))),
        }
    }

    /// Submits and sleeps until a completion is there, the time is over, or for no reason.
    fn sleep(&mut self, left: Option<Duration>) -> Result<(), EnterError> {
        let queued = self.publish();
        let entered = match left {
            Some(left) if self.ext_arg => self.raw.enter(queued, 1, Some(&Timespec::from(left))),
            None => self.raw.enter(queued, 1, None),
            // Before Linux 5.11 a wait takes no time limit; but the ring can be polled.
            Some(left) => match self.raw.enter(queued, 0, None) {
                Ok(_) => self.poll(left),
                Err(errno) => Err(errno),
            },
        };
        self.raw.sq.sync();
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
        let ring = self.raw.fd();
        poll(&mut [PollFd::new(&ring, PollFlags::IN)], limit.as_ref()).map(|_| 0)
    }

    /// Cancels everything in flight and waits until all of it has completed. Afterwards nothing
    /// accesses a buffer any more; the completions can still be reaped.
    ///
    /// # Errors
    /// [`Busy`] if the kernel has not given everything back within `deadline`. Whatever has completed
    /// can be reaped, and the call may be repeated.
    pub fn quiesce(&mut self, deadline: Duration) -> Result<(), Busy> {
        let quiet = self.cancel_and_collect(deadline);
        self.given_up = quiet.is_err().then_some(self.pushed);
        quiet
    }

    fn cancel_and_collect(&mut self, limit: Duration) -> Result<(), Busy> {
        if self.collect() == 0 {
            return Ok(());
        }
        let deadline = Instant::now().checked_add(limit);
        loop {
            // A failure is met below: what was not taken is stashed, the rest waited for.
            let _ = self.submit();
            if self.raw.cancel_all().is_err() {
                self.cancel_each();
            }
            if self.collect() == 0 {
                return Ok(());
            }
            let left = deadline.map_or(CANCEL_AGAIN, |deadline| {
                deadline
                    .saturating_duration_since(Instant::now())
                    .min(CANCEL_AGAIN)
            });
            if left.is_zero() {
                return Err(Busy {
                    in_flight: self.collect(),
                });
            }
            if self.sleep(Some(left)).is_err() {
                // The kernel will not be waited on; time and task work pass all the same.
                std::thread::sleep(left.min(BACK_OFF));
                self.run_deferred();
            }
        }
    }

    /// Asks for each operation alone, where the kernel (before 6.0) has no request for all.
    pub(super) fn cancel_each(&mut self) {
        if self.poisoned.is_some() {
            return;
        }
        let slab = &self.slab;
        let room = (slab.capacity() - self.cancels.min(slab.capacity()))
            .min((self.raw.sq.capacity() - self.raw.sq.len()) as u32);
        // Off the hot path, so it may allocate.
        let tokens: Vec<Token> = slab.tokens().take(room as usize).collect();
        for token in tokens {
            self.cancels += 1;
            self.enqueue(opcode::AsyncCancel::new(token.0).build(), token.cancel());
        }
        let _ = self.submit();
    }

    /// Stashes every completion there is; returns how many operations are still with the kernel.
    pub(super) fn collect(&mut self) -> u32 {
        self.raw.cq.sync();
        if self.raw.wants_entry() {
            self.run_deferred();
        }
        while let Some(cqe) = self.raw.next() {
            self.stash(cqe.user_data(), cqe.result());
        }
        self.raw.cq.sync();
        self.slab.live() - self.stashed.len() as u32
    }
}
