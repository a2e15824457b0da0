//! Submit: queued entries are handed to the kernel.

use rustix::io::Errno;

use super::Ring;
use crate::completion::Token;
use crate::error::EnterError;

impl Ring {
    /// Submits the queued operations and cancel requests without waiting for any of them. Returns
    /// how many entries the kernel took. Entries that it has no room for stay queued for the next
    /// call.
    ///
    /// # Errors
    /// [`EnterError::Fatal`] if the kernel refuses to be entered for good, in this call or an
    /// earlier one. The operations that it had not taken complete with that errno.
    #[inline]
    pub fn submit(&mut self) -> Result<u32, EnterError> {
        self.check_poison()?;
        let mut taken = 0;
        while !self.kernel.sq.is_empty() {
            let before = self.publish();
            let entered = self.kernel.enter(before, 0, None);
            // The queue's head tells what was taken even when the call returns nothing but an error.
            self.kernel.sq.sync();
            taken += before - self.kernel.sq.len() as u32;
            match entered {
                Ok(0) | Err(Errno::AGAIN | Errno::BUSY) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(self.poison(errno)),
            }
        }
        Ok(taken)
    }

    /// Publishes the queued entries to the kernel. Returns how many entries the kernel may take:
    /// zero once the ring is poisoned.
    #[inline]
    pub(super) fn publish(&mut self) -> u32 {
        self.kernel.sq.sync();
        if self.poisoned.is_some() {
            0
        } else {
            self.kernel.sq.len() as u32
        }
    }

    pub(super) fn check_poison(&self) -> Result<(), EnterError> {
        self.poisoned
            .map_or(Ok(()), |errno| Err(EnterError::Fatal(errno)))
    }

    /// Marks the ring as failed, and completes what the kernel has not taken with the errno.
    #[cold]
    pub(super) fn poison(&mut self, errno: Errno) -> EnterError {
        self.poisoned = Some(errno);
        let untaken = self.kernel.sq.len() as u32;
        let mask = self.queued.len() as u32 - 1;
        for back in (1..=untaken).rev() {
            let token = self.queued[(self.pushed.wrapping_sub(back) & mask) as usize];
            if token == Token::WAKE || token.futex_number().is_some() {
                self.complete_own(token, -Errno::CANCELED.raw_os_error());
            } else if token.is_cancel_request() {
                self.cancels = self.cancels.saturating_sub(1);
            } else {
                self.stash(token, -errno.raw_os_error());
            }
        }
        EnterError::Fatal(errno)
    }
}
