//! Abandoned requests, whose outcomes nobody takes.

use core::ops::Deref;

use super::{DeviceQueue, Outcome, QueueFull, Reservation, Ticket};
use crate::request::Request;
use crate::sync::Ordering;

impl DeviceQueue {
    /// Gives up a request: nobody takes its outcome. The host still serves it. When the request has an
    /// outcome, [`reserve`](Self::reserve) takes the slot back if it finds no free one.
    ///
    /// Until then the request's buffer must not be used, since a READ may still fill it. Abandon a request
    /// only if its buffer is not needed again, or if something else, such as a later FENCE, shows that the
    /// request has completed.
    ///
    /// ```
    /// use vyre_ioq::{Queue, QueueLayout, Request};
    ///
    /// let (mut host, device) = Queue::anonymous(QueueLayout::with_slots(1))?;
    /// device.abandon(device.submit(Request::fence())?);
    /// assert!(device.reserve().is_err(), "the host may be serving it");
    /// host.claim_published(0..1, drop);
    /// host.complete(0, Ok(0))?;
    /// device.unreserve(device.reserve()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// If the ticket comes from another queue.
    #[expect(clippy::needless_pass_by_value, reason = "a ticket is used up")]
    pub fn abandon(&self, ticket: Ticket) {
        self.assert_ours(ticket.queue);
        let (word, bit) = bit_of(ticket.slot);
        // Release, paired with the acquire in `reclaim`: the publication comes before the load that looks
        // for its outcome, which therefore cannot find that of an earlier request.
        self.abandoned[word].fetch_or(bit, Ordering::Release);
    }

    /// Submits a request as [`submit`](Self::submit) does, and returns a ticket that abandons the request
    /// when it is dropped.
    ///
    /// # Errors
    /// [`QueueFull`] if every slot is in use.
    pub fn submit_owned(&self, request: Request) -> Result<OwnedTicket<&Self>, QueueFull> {
        let ticket = self.submit(request)?;
        Ok(OwnedTicket::new(self, ticket))
    }

    /// Reserves an abandoned slot that has an outcome.
    #[cold]
    pub(super) fn reclaim(&self) -> Option<Reservation> {
        for (first, abandoned) in (0..self.geometry.slots())
            .step_by(usize::BITS as usize)
            .zip(&self.abandoned)
        {
            let mut left = abandoned.load(Ordering::Relaxed);
            while left != 0 {
                let bit = left & left.wrapping_neg();
                left &= !bit;
                // The lane that clears the bit owns the slot. Acquire, paired with the release in `abandon`.
                if abandoned.fetch_and(!bit, Ordering::Acquire) & bit == 0 {
                    continue;
                }
                let slot = first + bit.trailing_zeros();
                if self.is_free(slot) {
                    let queue = self.identity;
                    return Some(Reservation { slot, queue });
                }
                // Relaxed: a read-modify-write continues the release sequence of `abandon`.
                abandoned.fetch_or(bit, Ordering::Relaxed);
            }
        }
        None
    }
}

const fn bit_of(slot: u32) -> (usize, usize) {
    ((slot / usize::BITS) as usize, 1 << (slot % usize::BITS))
}

/// [`Ticket`] that [abandons](DeviceQueue::abandon) its request when it is dropped.
///
/// No slot is lost when a future is cancelled or a function returns early. The request's buffer must not
/// be used after such a drop: see [`DeviceQueue::abandon`].
///
/// `Q` is a pointer to the queue: a reference, as from [`submit_owned`](DeviceQueue::submit_owned), or an
/// `Arc` for a ticket that outlives the scope.
///
/// ```
/// use vyre_ioq::{Queue, QueueLayout, Request};
///
/// let (mut host, device) = Queue::anonymous(QueueLayout::with_slots(2))?;
/// let ticket = device.submit_owned(Request::fence().with_tag(3))?;
/// drop(device.submit_owned(Request::fence())?);
/// host.claim_published(0..2, drop);
/// host.complete_batch(&[(0, Ok(0)), (1, Ok(0))])?;
/// assert_eq!(ticket.take().expect("served").tag, 3);
/// for _ in 0..2 {
///     device.submit(Request::fence())?; // Both slots are free again.
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping it abandons the request"]
pub struct OwnedTicket<Q: Deref<Target = DeviceQueue>> {
    queue: Q,
    slot: u32,
    /// Set while this ticket owns the slot.
    held: bool,
}

impl<Q: Deref<Target = DeviceQueue>> OwnedTicket<Q> {
    /// Takes ownership of a ticket of `queue`.
    ///
    /// # Panics
    /// If the ticket comes from another queue.
    #[expect(clippy::needless_pass_by_value, reason = "a ticket is used up")]
    pub fn new(queue: Q, ticket: Ticket) -> Self {
        queue.assert_ours(ticket.queue);
        Self {
            queue,
            slot: ticket.slot,
            held: true,
        }
    }

    /// Returns the slot that holds the request.
    pub const fn slot(&self) -> u32 {
        self.slot
    }

    /// Returns the outcome, or `None` while there is none, as [`DeviceQueue::poll`] does.
    pub fn poll(&self) -> Option<Outcome> {
        self.queue.poll(&self.plain())
    }

    /// Takes the outcome, as [`DeviceQueue::take`] does.
    ///
    /// # Errors
    /// The ticket if there is no outcome yet.
    pub fn take(mut self) -> Result<Outcome, Self> {
        match self.queue.take(self.plain()) {
            Ok(outcome) => {
                self.held = false;
                Ok(outcome)
            }
            Err(_) => Err(self),
        }
    }

    /// Waits for the outcome within `limits`.
    ///
    /// The slot is given back when the ticket is dropped. Until then the outcome can be polled again, and
    /// after an error the request can be waited for again.
    ///
    /// # Errors
    /// The variant of [`Unanswered`](super::wait::Unanswered) for the reason that ended the wait.
    #[cfg(feature = "std")]
    pub fn wait(
        &self,
        limits: super::wait::WaitLimits,
    ) -> Result<Outcome, super::wait::Unanswered> {
        self.queue.poll_within(&self.plain(), limits)
    }

    /// Returns the plain ticket, whose request is not abandoned when it is dropped.
    pub fn into_ticket(mut self) -> Ticket {
        self.held = false;
        self.plain()
    }

    fn plain(&self) -> Ticket {
        Ticket {
            slot: self.slot,
            queue: self.queue.identity,
        }
    }
}

impl<Q: Deref<Target = DeviceQueue>> Drop for OwnedTicket<Q> {
    fn drop(&mut self) {
        if self.held
            && let Err(pending) = self.queue.take(self.plain())
        {
            self.queue.abandon(pending);
        }
    }
}
