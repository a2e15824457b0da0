//! Cancel: operations are ended early, one or all of them.

use std::time::{Duration, Instant};

use io_uring::opcode;

use super::Ring;
use super::wait::BACK_OFF;
use crate::completion::Token;
use crate::error::Busy;

/// The wait for cancelled operations before those that were missed are cancelled again.
const CANCEL_AGAIN: Duration = Duration::from_millis(20);

impl Ring {
    /// Asks the kernel to end an operation early. The operation still completes exactly once, with
    /// `ECANCELED` or with its own result. The next submission sends the request.
    ///
    /// A request can miss an operation that is moving between two lists of the kernel. The call may
    /// therefore be repeated while the operation is in flight: it sends another request once the
    /// kernel has answered the earlier one, and does nothing before.
    ///
    /// Returns `false` if the operation is no longer in flight, or if there was no room for the
    /// request.
    pub fn cancel(&mut self, token: Token) -> bool {
        let room = self.poisoned.is_none() && self.cancels < self.capacity();
        let Some(operation) = self.tokens.get_mut(token) else {
            return false;
        };
        if operation.cancelling {
            return true;
        }
        if !room || (self.kernel.sq.is_full() && self.make_room().is_err()) {
            return false;
        }
        if let Some(operation) = self.tokens.get_mut(token) {
            operation.cancelling = true;
        }
        self.enqueue_cancel(token);
        true
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
        if self.stash_all() == 0 {
            return Ok(());
        }
        let deadline = Instant::now().checked_add(limit);
        loop {
            // A failure stashes a result for what was not taken; the rest is waited for below.
            let _ = self.submit();
            if self.kernel.cancel_all().is_err() {
                self.cancel_each();
            }
            if self.stash_all() == 0 {
                return Ok(());
            }
            let left = deadline.map_or(CANCEL_AGAIN, |deadline| {
                deadline
                    .saturating_duration_since(Instant::now())
                    .min(CANCEL_AGAIN)
            });
            if left.is_zero() {
                return Err(Busy::new(self.stash_all()));
            }
            if self.sleep(Some(left)).is_err() {
                // The kernel refuses the wait; time passes and deferred work runs all the same.
                std::thread::sleep(left.min(BACK_OFF));
                self.run_deferred();
            }
        }
    }

    /// Cancels the operations one by one: the kernel (before 6.0) has no request for all of them.
    pub(super) fn cancel_each(&mut self) {
        if self.poisoned.is_some() {
            return;
        }
        let capacity = self.capacity();
        let room = (capacity - self.cancels.min(capacity))
            .min((self.kernel.sq.capacity() - self.kernel.sq.len()) as u32);
        // Off the hot path, so it may allocate.
        let tokens: Vec<Token> = self.tokens.tokens().take(room as usize).collect();
        for token in tokens {
            self.enqueue_cancel(token);
        }
        let _ = self.submit();
    }

    /// Enqueues a request to cancel, for which the caller has seen room.
    fn enqueue_cancel(&mut self, token: Token) {
        self.enqueue_cancel_as(token, token.cancel_request());
    }

    /// Enqueues a request to end a wait on a futex, for which the caller has seen room.
    pub(super) fn enqueue_futex_end(&mut self, token: Token) {
        self.enqueue_cancel_as(token, Token::FUTEX_END);
    }

    fn enqueue_cancel_as(&mut self, token: Token, request: Token) {
        self.cancels += 1;
        let entry = opcode::AsyncCancel::new(token.raw()).build();
        self.enqueue(entry, request);
    }
}
