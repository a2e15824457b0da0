//! Complete: a result is matched with its operation, which then is no longer in flight.

use rustix::io::Errno;

use super::Ring;
use crate::completion::{Completion, Token};

/// `EAGAIN` as the kernel encodes it in a completion.
pub(super) const AGAIN: i32 = -Errno::AGAIN.raw_os_error();

impl Ring {
    /// Turns a completion of the kernel into one for the caller. Returns `None` for the ring's own
    /// entries, and for a completion that matches nothing.
    #[inline]
    pub(super) fn complete(&mut self, token: Token, res: i32) -> Option<Completion> {
        let Some(operation) = self.tokens.remove(token) else {
            self.complete_own(token, res);
            return None;
        };
        if res == AGAIN {
            self.files[operation.file as usize].use_workers();
        }
        Some(Completion::from_raw(operation.user, token, res))
    }

    /// Handles a completion that belongs to no operation: of the poll that wakes the ring, of a wait on a
    /// futex, of a cancel request, or of nothing.
    #[cold]
    pub(super) fn complete_own(&mut self, token: Token, res: i32) {
        if token == Token::WAKE {
            if let Some(wake) = &mut self.wake {
                wake.disarm();
            }
            return;
        }
        if let Some(number) = token.futex_number() {
            self.futexes.disarm(number, res);
            return;
        }
        match self.cancels.checked_sub(1) {
            Some(left) if token.is_cancel_request() => {
                self.cancels = left;
                // Whatever the result, another may be sent: a request can miss its operation.
                if let Some(operation) = self.tokens.get_mut(token.cancelled()) {
                    operation.cancelling = false;
                }
            }
            _ => self.strays += 1,
        }
    }

    /// Keeps a result for the next reap.
    pub(super) fn stash(&mut self, token: Token, res: i32) {
        match self.tokens.get_mut(token) {
            // Each operation in flight is stashed once, so the room made at set-up is enough.
            Some(operation) if !operation.stashed => {
                operation.stashed = true;
                self.stashed.push_back((token, res));
            }
            _ => self.complete_own(token, res),
        }
    }
}
