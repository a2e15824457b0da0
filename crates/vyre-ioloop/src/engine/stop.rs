//! The end of service: nothing is left unanswered, and nothing touches a buffer afterwards.

use std::time::Duration;

use vyre_ioq::{Errno, LoopState};
use vyre_uring::{Busy, Transport};

use super::{Engine, Place};
use crate::record::Work;

impl<T: Transport> Engine<T> {
    /// Begins to drain: what is claimed is finished, what is published from now on is completed
    /// with ECANCELED. To be stepped until [`in_flight`](Self::in_flight) is zero, and then
    /// [`stop`](Self::stop)ped.
    pub fn drain(&mut self) {
        self.draining = true;
        self.set_state(LoopState::Draining);
    }

    /// Ends service. Whatever is still in flight is cancelled and completed with ECANCELED, and so
    /// is what is published and unclaimed. Returns when the kernel has let go of every buffer, and
    /// devices then see STOPPED.
    ///
    /// # Errors
    /// [`Busy`] if the kernel kept operations longer than `deadline`. Devices then see FAILED, and
    /// dropping the engine leaks their buffers rather than free memory that may yet be written.
    /// The call may be repeated, to ask whether it still does.
    pub fn stop(&mut self, deadline: Duration) -> Result<(), Busy> {
        self.end(deadline, LoopState::Stopped)
    }

    /// As [`stop`](Self::stop), but tells devices that the host failed.
    ///
    /// # Errors
    /// As for [`stop`](Self::stop).
    pub fn fail(&mut self, deadline: Duration) -> Result<(), Busy> {
        self.end(deadline, LoopState::Failed)
    }

    fn end(&mut self, deadline: Duration, state: LoopState) -> Result<(), Busy> {
        if self.stopped {
            return self.transport.quiesce(deadline);
        }
        self.stopped = true;
        self.drain();
        self.cancel_everything();
        let quiet = self.transport.quiesce(deadline);
        let _ = self.reap_cancelled();
        for queue in 0..self.books.queues.len() {
            self.books.queues[queue].give_up(Errno::ECANCELED);
            self.claim(queue);
        }
        self.set_state(if quiet.is_ok() {
            state
        } else {
            LoopState::Failed
        });
        self.publish_counters();
        quiet
    }

    /// Ends every request that the transport does not hold, and marks the others.
    fn cancel_everything(&mut self) {
        for queue in 0..self.books.queues.len() as u32 {
            for slot in 0..self.books.queues[queue as usize].records.len() as u32 {
                let record = &mut self.books.queues[queue as usize].records[slot as usize];
                if record.token.is_some() {
                    record.cancelled.get_or_insert(Errno::ECANCELED);
                } else if record.work != Work::None && record.work != Work::Fence {
                    self.cancel(Place { queue, slot }, Errno::ECANCELED);
                }
            }
        }
    }

    /// Reaps without starting anything new. Fences end when all they wait for has.
    fn reap_cancelled(&mut self) -> u32 {
        let reaped = self.reap();
        while let Some(place) = self.books.backlog.pop_front() {
            self.books.finish(place, Err(Errno::ECANCELED));
        }
        self.books.deliver();
        reaped
    }

    fn set_state(&mut self, state: LoopState) {
        for queue in &mut self.books.queues {
            queue.host.set_state(state);
        }
    }
}

impl<T: Transport> Drop for Engine<T> {
    fn drop(&mut self) {
        // The transport's own drop waits once more, and leaks what it cannot quiesce.
        if !self.stopped {
            let _ = self.fail(DROP_DEADLINE);
        }
    }
}

/// How long a dropped engine waits for the kernel to let go of its buffers.
const DROP_DEADLINE: Duration = Duration::from_secs(5);
