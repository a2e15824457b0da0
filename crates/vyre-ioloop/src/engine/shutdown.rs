//! The end of service. A request that the transport still holds gets no outcome, because an outcome
//! would return its buffer to the device while the kernel may write to it.

use std::time::{Duration, Instant};

use vyre_ioq::{Errno, LoopState};
use vyre_uring::{Busy, Transport};

use super::Engine;
use super::progress::Progress;
use super::queue_state::StillHeld;
use super::request_state::Admitted;
use super::slot_id::SlotId;

impl<T: Transport> Engine<T> {
    /// Starts to drain: claimed requests are finished, and requests published from now on complete with
    /// ECANCELED. Step the engine until [`outstanding`](Self::outstanding) is zero, and then
    /// [`stop`](Self::stop) it.
    pub fn drain(&mut self) {
        self.draining = true;
        for queue in &mut self.state.queues {
            queue.draining = true;
        }
        self.set_state(LoopState::Draining);
    }

    /// Ends service. Cancels everything in flight, and waits until the kernel has released every
    /// buffer. Unfinished and unclaimed requests complete with ECANCELED. Devices then see STOPPED.
    ///
    /// The call takes `deadline` at most. Devices see a heartbeat meanwhile.
    ///
    /// # Errors
    /// [`Busy`] if the kernel held operations for longer than `deadline`. Their requests, and the
    /// fences that wait for them, never get an outcome, because the kernel may still write to their
    /// buffers. All other requests get one, and devices see FAILED. A drop of the engine leaks those
    /// buffers.
    ///
    /// The call may be repeated to learn whether the kernel still holds anything. Operations that it
    /// returns later get no outcome: after FAILED there are no new outcomes.
    pub fn stop(&mut self, deadline: Duration) -> Result<(), Busy> {
        self.end(deadline, LoopState::Stopped)
    }

    /// Ends service as [`stop`](Self::stop) does, but tells devices that the host failed.
    ///
    /// # Errors
    /// The same as for [`stop`](Self::stop).
    pub fn fail(&mut self, deadline: Duration) -> Result<(), Busy> {
        self.end(deadline, LoopState::Failed)
    }

    fn end(&mut self, deadline: Duration, state: LoopState) -> Result<(), Busy> {
        if self.stopped {
            let quiet = self.transport.quiesce(deadline);
            self.reap_late();
            return quiet;
        }
        self.stopped = true;
        self.drain();
        // What a panic kept from the requests may be in the transport, so it gets no outcome yet.
        if self.still_held() == StillHeld::Named {
            self.cancel_everything();
        }
        let quiet = self.quiesce(deadline);
        self.reap();
        // Also what was decided before a panic.
        self.state.publish_all_outcomes();
        self.state.forsake_flushes();
        let still_held = if quiet.is_ok() {
            StillHeld::Nothing
        } else {
            self.still_held()
        };
        if still_held == StillHeld::Unknown {
            self.state.backlogged = 0;
        } else {
            self.cancel_everything();
        }
        for queue in 0..self.state.queues.len() {
            self.state.queues[queue].complete_rest(Errno::ECANCELED, still_held);
            self.sweep_queue(queue);
            self.state.publish_outcomes(queue);
        }
        self.state.deadlines.clear();
        self.state.cancelling = 0;
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
        self.cancel_backlog();
        for queue in 0..self.state.queues.len() as u32 {
            for slot in 0..self.state.queues[queue as usize].requests.len() as u32 {
                let request = &mut self.state.queues[queue as usize].requests[slot as usize];
                if request.token.is_some() {
                    request.cancelled.get_or_insert(Errno::ECANCELED);
                } else if matches!(request.admitted, Admitted::Sync { .. }) {
                    self.cancel(SlotId { queue, slot }, Errno::ECANCELED);
                }
            }
        }
        // Before any outcome is stored in another way.
        self.state.publish_all_outcomes();
    }

    /// Ends the requests that wait for room in the transport, and the fences that thereby become
    /// due.
    fn cancel_backlog(&mut self) {
        for queue in 0..self.state.queues.len() as u32 {
            while let Some(slot) = self.state.first_waiting(queue) {
                self.cancel(SlotId { queue, slot }, Errno::ECANCELED);
            }
        }
    }

    /// Waits until the transport holds nothing, in steps with a heartbeat before each.
    fn quiesce(&mut self, deadline: Duration) -> Result<(), Busy> {
        let end = Instant::now().checked_add(deadline);
        loop {
            self.beat();
            let begun = Instant::now();
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(begun));
            let step = left.min(QUIESCE_STEP);
            match self.transport.quiesce(step) {
                // One that says so before its time is up would not say otherwise later.
                Err(_) if step < left && begun.elapsed() >= step => {}
                quiet => return quiet,
            }
        }
    }

    /// Returns the operations that the transport still holds, with their requests.
    fn still_held(&self) -> StillHeld {
        let requests = self.state.queues.iter().flat_map(|queue| &queue.requests);
        let named = requests.filter(|request| request.token.is_some()).count() as u32;
        let named = named + self.state.abandoned_operations();
        match self.transport.in_flight() {
            in_flight if in_flight > named => StillHeld::Unknown,
            _ => StillHeld::Named,
        }
    }

    /// Performs a pass after service has ended, without outcomes.
    #[cold]
    pub(super) fn step_after_end(&mut self) -> Progress {
        Progress {
            reaped: self.reap_late(),
            ..Progress::default()
        }
    }

    /// Reaps the operations that the transport returns after service has ended. Their entries are
    /// released, and their requests get no outcome.
    fn reap_late(&mut self) -> u32 {
        let state = &mut self.state;
        let reaped = self.transport.reap(|completion| state.let_go(&completion));
        if reaped > 0 {
            self.reclaim();
            self.publish_counters();
        }
        reaped
    }

    fn set_state(&mut self, state: LoopState) {
        for queue in &mut self.state.queues {
            queue.host.set_state(state);
        }
    }
}

impl<T: Transport> Drop for Engine<T> {
    fn drop(&mut self) {
        if !self.stopped {
            let _ = self.fail(DROP_DEADLINE);
        }
        if self.transport.in_flight() == 0 {
            self.let_linger();
        }
    }
}

/// The longest time without a heartbeat while the engine waits for the transport.
const QUIESCE_STEP: Duration = Duration::from_millis(100);

/// The time that a dropped engine waits for the kernel to release its buffers.
const DROP_DEADLINE: Duration = Duration::from_secs(5);
