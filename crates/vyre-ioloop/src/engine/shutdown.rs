//! The end of service. A request that the transport still holds is never answered: an outcome would
//! give its buffer back to the device while the kernel may write to it.

use std::time::{Duration, Instant};

use vyre_ioq::{Errno, LoopState};
use vyre_uring::{Busy, Transport};

use super::Engine;
use super::progress::Progress;
use super::queue_state::StillHeld;
use super::request_state::Admitted;
use super::slot_id::SlotId;

impl<T: Transport> Engine<T> {
    /// Begins to drain: what is claimed is finished, what is published from now on is completed
    /// with ECANCELED. To be stepped until [`in_flight`](Self::in_flight) is zero, and then
    /// [`stop`](Self::stop)ped.
    pub fn drain(&mut self) {
        self.draining = true;
        self.set_state(LoopState::Draining);
    }

    /// Ends service. Cancels what is in flight and waits until the kernel has let go of every
    /// buffer; what was not carried out by then is completed with ECANCELED, as is what is published
    /// and unclaimed. Devices then see STOPPED.
    ///
    /// Takes `deadline` at most, and devices see a heartbeat meanwhile.
    ///
    /// # Errors
    /// [`Busy`] if the kernel kept operations longer than `deadline`. Their requests, and the fences
    /// that wait for them, then never get an outcome, since the kernel may still write to their
    /// buffers; all other requests are answered, and devices see FAILED. Dropping the engine leaks
    /// those buffers.
    ///
    /// The call may be repeated, to ask whether the kernel still holds anything. What it gives back
    /// by then is not answered any more: after FAILED there are no new outcomes.
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
            let quiet = self.transport.quiesce(deadline);
            self.reap_late();
            return quiet;
        }
        self.stopped = true;
        self.drain();
        // What a panic kept from the requests may be in the transport: not to be answered yet.
        if self.kept() == StillHeld::Named {
            self.cancel_everything();
        }
        let quiet = self.quiesce(deadline);
        self.reap();
        // Also what was decided before a panic.
        self.state.publish_all_outcomes();
        self.state.forsake_flushes();
        let kept = if quiet.is_ok() {
            StillHeld::Nothing
        } else {
            self.kept()
        };
        if kept == StillHeld::Unknown {
            self.state.backlogged = 0;
        } else {
            self.cancel_everything();
        }
        for queue in 0..self.state.queues.len() {
            self.state.queues[queue].give_up(Errno::ECANCELED, kept);
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
        // Before anything is answered in another way.
        self.state.publish_all_outcomes();
    }

    /// Ends the requests that wait for room in the transport, and what becomes due by their end.
    fn cancel_backlog(&mut self) {
        for queue in 0..self.state.queues.len() as u32 {
            while let Some(slot) = self.state.first_waiting(queue) {
                self.cancel(SlotId { queue, slot }, Errno::ECANCELED);
            }
        }
    }

    /// Waits until the transport holds nothing, in steps: devices see a heartbeat before each.
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

    /// Returns what the transport still holds, of which requests.
    fn kept(&self) -> StillHeld {
        let requests = self.state.queues.iter().flat_map(|queue| &queue.requests);
        let named = requests.filter(|request| request.token.is_some()).count() as u32;
        match self.transport.in_flight() {
            in_flight if in_flight > named => StillHeld::Unknown,
            _ => StillHeld::Named,
        }
    }

    /// Performs a pass after the end of service: it answers nothing.
    #[cold]
    pub(super) fn step_after_end(&mut self) -> Progress {
        Progress {
            reaped: self.reap_late(),
            ..Progress::default()
        }
    }

    /// Reaps what the transport gives back after the end of service: its entries are released, and
    /// its request stays unanswered.
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

/// Longest time without a heartbeat while the transport is waited for.
const QUIESCE_STEP: Duration = Duration::from_millis(100);

/// The time that a dropped engine waits for the kernel to release its buffers.
const DROP_DEADLINE: Duration = Duration::from_secs(5);
