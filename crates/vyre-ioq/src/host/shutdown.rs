//! Shutdown of a host end: it completes the requests that are safe to complete and publishes that it has
//! ended.

use super::HostQueue;
use crate::errno::Errno;
use crate::queue_header::LoopState;

impl HostQueue {
    /// Completes every slot that is still owed an outcome with `errno`. Returns their number.
    ///
    /// An outcome hands the request's buffer back to the device. Call this only when nothing on the
    /// host's side can touch the buffer of any claimed request. Otherwise use
    /// [`complete_owed_where`](Self::complete_owed_where).
    pub fn complete_owed(&mut self, errno: Errno) -> u32 {
        self.complete_owed_where(errno, |_| true)
    }

    /// Completes with `errno` the owed slots for which `is_safe` returns `true`. Returns their number.
    ///
    /// `is_safe` must return `true` only for a slot whose buffer nothing on the host's side can touch
    /// any more. The other slots stay owed an outcome, and their devices must leave the buffers alone.
    /// Publish [`LoopState::Failed`] or [`LoopState::Stopped`] after this, so that devices stop waiting
    /// for them. A bare queue has no word for that. There, the slots that stay hold CLAIMED since their
    /// claim, so that neither the device nor a new host uses them.
    ///
    /// ```
    /// use vyre_ioq::{Errno, LoopState, Queue, QueueLayout, Request};
    ///
    /// let (mut host, device) = Queue::anonymous(QueueLayout::with_slots(2))?;
    /// let done = device.submit(Request::fence())?;
    /// let in_flight = device.submit(Request::fence())?;
    /// host.claim_published(0..2, drop);
    /// assert_eq!(host.complete_owed_where(Errno::ECANCELED, |slot| slot != in_flight.slot()), 1);
    /// host.set_state(LoopState::Failed);
    /// assert_eq!(device.poll(&done).unwrap().bytes(), Err(Errno::ECANCELED));
    /// assert_eq!(device.poll(&in_flight), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn complete_owed_where(
        &mut self,
        errno: Errno,
        mut is_safe: impl FnMut(u32) -> bool,
    ) -> u32 {
        let owed = self.owed.clone();
        owed.iter()
            .filter(|&slot| is_safe(slot) && self.complete(slot, Err(errno)).is_ok())
            .count() as u32
    }
}

impl Drop for HostQueue {
    /// Publishes [`LoopState::Failed`], unless the host has published an end before, so that no device
    /// waits for this host. Owed slots get no outcome: only the owner of the transfers knows whether
    /// something can still touch their buffers. See
    /// [`complete_owed_where`](HostQueue::complete_owed_where).
    fn drop(&mut self) {
        if !self.state.is_gone() {
            self.set_state(LoopState::Failed);
        }
    }
}
