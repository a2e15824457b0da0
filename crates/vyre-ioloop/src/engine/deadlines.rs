//! Requests that end early: at their deadline, or at shutdown.

pub(super) mod heap;

use std::time::Duration;

use vyre_ioq::Errno;
use vyre_uring::Transport;

use super::Engine;
use super::clock::TestClock;
use super::request_state::Admitted;
use super::slot_id::SlotId;
use super::slot_lists::SlotList;

/// The microseconds between two cancellations of one operation. The kernel can miss an operation that
/// moves between two of its threads.
const ASK_AGAIN: u64 = 20_000;

impl<T: Transport> Engine<T> {
    /// Returns when a request claimed now expires, on the engine's clock; 0 is never. The clock is
    /// read only for requests with a deadline.
    #[inline]
    pub(super) fn expiry(&self, deadline: u32) -> u64 {
        if deadline == 0 {
            return 0;
        }
        self.expiry_after(deadline)
    }

    /// Computes [`expiry`](Self::expiry) for requests with a deadline, off the path of the others.
    #[cold]
    fn expiry_after(&self, deadline: u32) -> u64 {
        self.clock.now() + u64::from(deadline)
    }

    /// Returns whether a pass must read the clock.
    #[inline]
    pub(super) fn is_timed(&self) -> bool {
        self.state.cancelling > 0 || !self.state.deadlines.is_empty()
    }

    /// Cancels the requests whose deadline has passed, and returns their number. A request whose
    /// operation is in flight completes only after the kernel has released its buffer.
    #[cold]
    pub(super) fn expire(&mut self) -> u32 {
        let now = self.clock.now();
        let mut expired = 0;
        while let Some(id) = self.state.deadlines.pop_due(now) {
            self.cancel(id, Errno::ETIMEDOUT);
            expired += 1;
        }
        self.state.counters.timed_out += u64::from(expired);
        if self.state.cancelling > 0 {
            self.ask_to_cancel(now);
        }
        expired
    }

    /// Returns the time until the engine must act by itself.
    pub(super) fn until_due(&self) -> Option<Duration> {
        let ask = (self.state.cancelling > 0).then_some(self.ask_again);
        let held = (self.state.held > 0).then(|| self.state.next_resume());
        let deadline = self.state.deadlines.first();
        let next = deadline
            .into_iter()
            .chain(ask)
            .chain(held.flatten())
            .min()?;
        Some(Duration::from_micros(next.saturating_sub(self.clock.now())))
    }

    /// Ends a request early with `reason`: now, or as soon as the kernel has released its buffer.
    pub(super) fn cancel(&mut self, id: SlotId, reason: Errno) {
        let state = &mut self.state;
        let queue = &mut state.queues[id.queue as usize];
        let request = &mut queue.requests[id.slot as usize];
        if request.token.is_some() {
            if request.cancelled.replace(reason).is_none() {
                queue.lists.push(SlotList::CancelPending, id.slot);
                state.cancelling += 1;
            }
            return;
        }
        match request.admitted {
            Admitted::None => {
                state.finish_fence(id, reason);
                return;
            }
            _ => state.leave_list(id),
        }
        state.forsake_flush(id);
        state.finish(id, Err(reason));
    }

    /// Sends the cancellations that are due to the transport. Every [`ASK_AGAIN`] microseconds, repeats
    /// those of operations that are still in flight.
    fn ask_to_cancel(&mut self, now: u64) {
        let again = now >= self.ask_again;
        if again {
            self.ask_again = now + ASK_AGAIN;
        }
        for queue in 0..self.state.queues.len() {
            let queue = &mut self.state.queues[queue];
            while again && let Some(slot) = queue.lists.pop(SlotList::CancelAsked) {
                queue.lists.push(SlotList::CancelPending, slot);
            }
            while let Some(slot) = queue.lists.pop(SlotList::CancelPending) {
                let token = queue.requests[slot as usize].token;
                if token.is_some_and(|token| !self.transport.cancel(token)) {
                    // No room to ask: again in the next pass.
                    queue.lists.push_front(SlotList::CancelPending, slot);
                    break;
                }
                queue.lists.push(SlotList::CancelAsked, slot);
            }
        }
    }

    /// Gives a test control of the engine's clock, which then stands still until it is advanced. It is
    /// not part of the stable interface.
    #[doc(hidden)]
    pub fn drive_clock(&mut self) -> TestClock {
        let clock = TestClock::new(self.clock.now());
        self.clock = clock.clock();
        clock
    }
}
