//! Polls: a lane finds the outcome of its request.

use super::{DeviceQueue, Outcome, Reservation, Ticket};
use crate::abi::{status, word};
use crate::errno::Errno;
use crate::sync::Ordering;

impl DeviceQueue {
    /// Returns the outcome of a request, or `None` while there is none.
    ///
    /// The status is loaded with acquire, which pairs with the release of
    /// [`HostQueue::complete`](crate::HostQueue::complete). When there is an outcome, the bytes that a READ
    /// moved are visible too.
    ///
    /// # Panics
    /// If the ticket comes from another queue.
    #[inline]
    pub fn poll(&self, ticket: &Ticket) -> Option<Outcome> {
        self.assert_ours(ticket.queue);
        let words = self.region.words::<8>(self.geometry.slot_word(ticket.slot));
        let ok = match words.load(word::STATUS, Ordering::Acquire) {
            status::OK => true,
            status::ERROR => false,
            _ => return None,
        };
        let count = words.load(word::COUNT, Ordering::Relaxed);
        Some(Outcome {
            tag: words.load(word::TAG, Ordering::Relaxed),
            result: match (ok, self.counts) {
                (true, _) => Ok(count),
                (false, true) => Err(Errno::from_raw(count)),
                // COUNT still holds the count of the request: the cause is unknown.
                (false, false) => Err(Errno::EIO),
            },
        })
    }

    /// Returns whether a slot holds an outcome, which may be that of an earlier request. Relaxed: whoever acts on it polls.
    #[cfg(all(feature = "std", not(loom)))]
    pub(crate) fn has_outcome(&self, slot: u32) -> bool {
        let words = self.region.words::<8>(self.geometry.slot_word(slot));
        let status = words.load(word::STATUS, Ordering::Relaxed);
        matches!(status, status::OK | status::ERROR)
    }

    /// Takes the outcome and gives the slot back for reuse.
    ///
    /// Nothing is stored in the slot, since each store moves a cache line. The next publication replaces
    /// the outcome.
    ///
    /// # Errors
    /// The ticket if there is no outcome yet.
    ///
    /// # Panics
    /// If the ticket comes from another queue.
    #[inline]
    pub fn take(&self, ticket: Ticket) -> Result<Outcome, Ticket> {
        let (outcome, Reservation { slot, .. }) = self.take_and_keep(ticket)?;
        self.unlock(slot);
        Ok(outcome)
    }

    /// Takes the outcome as [`take`](Self::take) does, and keeps the slot reserved for the caller's next
    /// request. That request then needs no search for a slot and no atomic read-modify-write.
    ///
    /// # Errors
    /// The ticket if there is no outcome yet.
    ///
    /// # Panics
    /// If the ticket comes from another queue.
    #[inline]
    pub fn take_and_keep(&self, ticket: Ticket) -> Result<(Outcome, Reservation), Ticket> {
        let Some(outcome) = self.poll(&ticket) else {
            return Err(ticket);
        };
        let Ticket { slot, queue } = ticket;
        Ok((outcome, Reservation { slot, queue }))
    }
}
