//! Reap: completions are taken from the kernel.

use rustix::io::Errno;

use super::Ring;
use crate::completion::{Completion, Token};

impl Ring {
    /// Passes every completion that is available now to `sink`, and returns how many there were.
    /// Enters the kernel only if the kernel has flagged work that it deferred to this thread.
    #[inline]
    pub fn reap(&mut self, mut sink: impl FnMut(Completion)) -> u32 {
        self.kernel.cq.sync();
        if self.kernel.wants_entry() {
            self.run_deferred();
        }
        let mut count = 0;
        let mut seen = false;
        while let Some((token, res)) = self.next_result() {
            seen = true;
            if let Some(completion) = self.complete(token, res) {
                count += 1;
                sink(completion);
            }
        }
        if seen {
            // Frees the entries at once: the kernel counts from the head when it waits.
            self.kernel.cq.sync();
        }
        count
    }

    /// Takes the next result: a stashed one, or else one that the last sync made visible. `reap` calls
    /// it in one place, so that its sink is compiled into the loop.
    #[inline(always)]
    fn next_result(&mut self) -> Option<(Token, i32)> {
        if !self.stashed.is_empty() {
            return self.stashed.pop_front();
        }
        let cqe = self.kernel.next_completion()?;
        Some((Token::from_raw(cqe.user_data()), cqe.result()))
    }

    /// Returns whether the next reap has something to take.
    pub(super) fn is_ready(&mut self) -> bool {
        self.kernel.cq.sync();
        !self.stashed.is_empty() || !self.kernel.cq.is_empty()
    }

    /// Runs the work that the kernel has deferred to this thread, then looks at the queue again.
    #[cold]
    pub(super) fn run_deferred(&mut self) {
        match self.kernel.enter(0, 0, None) {
            // The next call runs what is still flagged.
            Ok(_) | Err(Errno::INTR | Errno::AGAIN | Errno::BUSY) => {}
            Err(errno) if self.poisoned.is_none() => {
                self.kernel.sq.sync();
                // The results stashed here are reaped, and the next submit returns the error.
                let _ = self.poison(errno);
            }
            Err(_) => {}
        }
        self.kernel.cq.sync();
    }

    /// Stashes every completion that is available now. Returns how many operations are still with
    /// the kernel.
    pub(super) fn stash_all(&mut self) -> u32 {
        self.kernel.cq.sync();
        if self.kernel.wants_entry() {
            self.run_deferred();
        }
        while let Some(cqe) = self.kernel.next_completion() {
            self.stash(Token::from_raw(cqe.user_data()), cqe.result());
        }
        self.kernel.cq.sync();
        self.tokens.len() - self.stashed.len() as u32
    }
}
