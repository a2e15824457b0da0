//! Requests that end early: at their deadline, and at the end of service.

pub(super) mod heap;

use std::time::Duration;

use vyre_ioq::Errno;
use vyre_uring::Transport;

use super::Engine;
use super::backlog::Line;
use super::clock::TestClock;
use super::request_state::Work;
use super::slot_id::Place;

/// Microseconds between two requests to cancel one operation: the kernel can miss an operation that
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

    /// Computes [`expiry`](Self::expiry) for the few requests that have a deadline, off the path of
    /// the others.
    #[cold]
    fn expiry_after(&self, deadline: u32) -> u64 {
        self.clock.now() + u64::from(deadline)
    }

    /// Returns whether a pass must read the clock for anything.
    #[inline]
    pub(super) fn is_timed(&self) -> bool {
        self.books.cancelling > 0 || !self.books.deadlines.is_empty()
    }

    /// Cancels requests whose deadline has passed, and returns their number. One whose operation is
    /// in flight is completed only when the kernel has released its buffer.
    #[cold]
    pub(super) fn expire(&mut self) -> u32 {
        let now = self.clock.now();
        let mut expired = 0;
        while let Some(place) = self.books.deadlines.pop_due(now) {
            self.cancel(place, Errno::ETIMEDOUT);
            expired += 1;
        }
        self.books.counters.timed_out += u64::from(expired);
        if self.books.cancelling > 0 {
            self.ask_to_cancel(now);
        }
        expired
    }

    /// Returns how long it is until the engine has to act by itself.
    pub(super) fn until_due(&self) -> Option<Duration> {
        let ask = (self.books.cancelling > 0).then_some(self.ask_again);
        let next = self.books.deadlines.first().into_iter().chain(ask).min()?;
        Some(Duration::from_micros(next.saturating_sub(self.clock.now())))
    }

    /// Ends a request early with `reason`: now, or as soon as the kernel has released its buffer.
    pub(super) fn cancel(&mut self, place: Place, reason: Errno) {
        let books = &mut self.books;
        let served = &mut books.queues[place.queue as usize];
        let record = &mut served.records[place.slot as usize];
        if record.token.is_some() {
            if record.cancelled.replace(reason).is_none() {
                served.lines.push(Line::Unasked, place.slot);
                books.cancelling += 1;
            }
            return;
        }
        match record.work {
            Work::None => return,
            Work::Fence => {
                let epoch = record.epoch;
                served.order.forget_fence(epoch, place.slot);
            }
            _ => books.leave_line(place),
        }
        books.forsake_flush(place);
        books.finish(place, Err(reason));
    }

    /// Asks the transport to cancel operations for which it was not asked yet. Every [`ASK_AGAIN`]
    /// microseconds it asks once more for those that are still in flight.
    fn ask_to_cancel(&mut self, now: u64) {
        let again = now >= self.ask_again;
        if again {
            self.ask_again = now + ASK_AGAIN;
        }
        for queue in 0..self.books.queues.len() {
            let served = &mut self.books.queues[queue];
            while again && let Some(slot) = served.lines.pop(Line::Asked) {
                served.lines.push(Line::Unasked, slot);
            }
            while let Some(slot) = served.lines.pop(Line::Unasked) {
                let token = served.records[slot as usize].token;
                if token.is_some_and(|token| !self.transport.cancel(token)) {
                    // No room to ask: again in the next pass.
                    served.lines.push_front(Line::Unasked, slot);
                    break;
                }
                served.lines.push(Line::Asked, slot);
            }
        }
    }

    /// Gives a test control of the engine's clock: it stands still until it is advanced. Not part
    /// of the stable interface.
    #[doc(hidden)]
    pub fn drive_clock(&mut self) -> TestClock {
        let clock = TestClock::new(self.clock.now());
        self.clock = clock.clock();
        clock
    }
}
