//! Results are taken from the threads, waited for, and forced by cancelling.

use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::ThreadPool;
use super::perform::encode;
use super::sleeper::WOKEN;
use crate::completion::Token;
use crate::error::Busy;
use crate::settings::UNHEARD;

impl ThreadPool {
    /// Takes the results of the threads.
    #[inline]
    pub(super) fn collect(&mut self) {
        if self.shared.has_results() {
            self.collect_results();
        }
    }

    #[cold]
    fn collect_results(&mut self) {
        let mut state = self.shared.lock();
        state.work.collect(&mut self.done);
        self.shared.unlock(state);
    }

    /// Sleeps until there is something to reap, until the time is over, or until a waker was called.
    pub(super) fn sleep(&mut self, timeout: Option<Duration>) {
        self.sleep_on(&[], timeout);
    }

    /// Sleeps as [`sleep`](Self::sleep) does, and at most until a word differs from its value or is woken.
    pub(super) fn sleep_on(&mut self, expected: &[u32], timeout: Option<Duration>) {
        // A deadline too far away to be represented is no limit.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut left = deadline.and(timeout);
        loop {
            self.collect();
            let idle = left.is_none() && self.tokens.len() == 0 && expected.is_empty();
            if idle || left == Some(Duration::ZERO) || !self.done.is_empty() {
                return;
            }
            let events = self.sleep_once(expected, left);
            // The end of a wait on a word is no event.
            if events & WOKEN != 0 || !expected.is_empty() {
                self.collect();
                return;
            }
            left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        }
    }

    /// Sleeps until a thread has a result, or something else happens. Returns what has happened.
    fn sleep_once(&mut self, expected: &[u32], left: Option<Duration>) -> u32 {
        let mut state = self.shared.lock();
        if !state.work.done().is_empty() {
            return 0;
        }
        // Whoever has a result from here on wakes this thread.
        state.asleep = true;
        drop(state);
        let sleeper = &self.shared.sleeper;
        let events = match (expected, &mut self.waits) {
            ([], _) => sleeper.sleep(left),
            (expected, Some(waits)) => sleeper.sleep_on(waits, expected, left),
            (expected, None)
                if self
                    .relays
                    .as_ref()
                    .is_some_and(|relays| relays.arm(expected)) =>
            {
                sleeper.sleep(left)
            }
            // The caller looks for what it would not be woken for.
            _ => sleeper.sleep(Some(left.map_or(UNHEARD, |left| left.min(UNHEARD)))),
        };
        self.shared.lock().asleep = false;
        events
    }

    pub(super) fn cancel_one(&mut self, token: Token) -> bool {
        let Some(operation) = self.tokens.get_mut(token) else {
            return false;
        };
        let mut state = self.shared.lock();
        let handed_over = state.work.cancel(token);
        self.shared.unlock(state);
        if !handed_over {
            // The next submission ends it, unless its result is known already.
            operation.cancelling = true;
        }
        true
    }

    /// Cancels everything and waits for what cannot be cancelled.
    pub(super) fn cancel_and_collect(&mut self, limit: Duration) -> Result<(), Busy> {
        for queued in self.attempts.drain(..).chain(self.queued.drain(..)) {
            self.done
                .push_back((queued.token, encode(Err(Errno::CANCELED))));
        }
        let deadline = Instant::now().checked_add(limit);
        loop {
            let mut state = self.shared.lock();
            state.work.cancel_all();
            let unfinished = state.work.unfinished();
            state.work.collect(&mut self.done);
            self.shared.unlock(state);
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if unfinished == 0 {
                return Ok(());
            }
            if left == Some(Duration::ZERO) {
                return Err(Busy::new(unfinished));
            }
            // A waker ends the sleep early, which does no harm.
            self.sleep_once(&[], left);
        }
    }
}
