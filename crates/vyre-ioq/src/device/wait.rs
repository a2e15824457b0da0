//! Waiting with a clock: bounded, and over when the host is gone.

use core::time::Duration;

use super::{DeviceQueue, Outcome, Ticket};
use crate::header::LoopState;
use crate::sync::{Instant, sleep, spin_loop, yield_now};

/// How long [`DeviceQueue::wait`] waits at most.
const DEFAULT_LIMIT: Duration = Duration::from_secs(30);
/// Polls between two looks at the clock and at the header.
const POLLS: u32 = if cfg!(loom) { 1 } else { 64 };
/// How long a wait only spins: longer than a cached read takes.
const SPIN: Duration = Duration::from_micros(20);
/// How long it yields before it begins to sleep: longer than a fast drive takes. A lane that goes on
/// keeps a core from those who do its work.
const YIELD: Duration = Duration::from_micros(100);
/// How long it sleeps at once, at most.
const NAP: Duration = Duration::from_millis(1);

/// Why a wait ended without an outcome. The request may still be served: the ticket comes back,
/// and the buffer must be left alone until it is taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The host stopped or failed, and did not answer this request.
    #[error("the host is gone and left slot {} unanswered", .0.slot())]
    HostGone(Ticket),
    /// The time is over.
    #[error(
        "no outcome for slot {} in {limit:?}; the host {}",
        .ticket.slot(),
        if *.host_alive { "is alive: wait on" } else { "has not moved in that time" }
    )]
    TimedOut {
        /// The request's.
        ticket: Ticket,
        /// How long was waited.
        limit: Duration,
        /// Whether the host's heartbeat moved meanwhile. Never so for a bare queue, which has
        /// none.
        host_alive: bool,
    },
}

impl WaitError {
    /// The ticket, to wait on or to poll later.
    pub fn into_ticket(self) -> Ticket {
        match self {
            Self::HostGone(ticket) | Self::TimedOut { ticket, .. } => ticket,
        }
    }
}

impl DeviceQueue {
    /// Waits for an outcome and gives the slot back: [`wait_for`](Self::wait_for) with a limit of
    /// 30 seconds.
    ///
    /// # Errors
    /// [`WaitError`].
    ///
    /// # Panics
    /// If the ticket is another queue's.
    pub fn wait(&self, ticket: Ticket) -> Result<Outcome, WaitError> {
        self.wait_for(ticket, DEFAULT_LIMIT)
    }

    /// Waits for an outcome, at most for `limit`, and gives the slot back. Spins at first, then
    /// yields, then sleeps for a sixteenth of the time it has waited, at most a millisecond.
    ///
    /// # Errors
    /// [`WaitError`], with the ticket.
    ///
    /// # Panics
    /// If the ticket is another queue's.
    pub fn wait_for(&self, mut ticket: Ticket, limit: Duration) -> Result<Outcome, WaitError> {
        let mut started = None;
        let heartbeat = self.host_heartbeat();
        loop {
            for _ in 0..POLLS {
                match self.take(ticket) {
                    Ok(outcome) => return Ok(outcome),
                    Err(pending) => ticket = pending,
                }
                spin_loop();
            }
            if self.host_state().is_some_and(LoopState::is_gone) {
                // The state's acquire came first: an outcome that the host wrote is visible now.
                return self.take(ticket).map_err(WaitError::HostGone);
            }
            let waited = started.get_or_insert_with(Instant::now).elapsed();
            if waited >= limit {
                return self.take(ticket).map_err(|ticket| WaitError::TimedOut {
                    ticket,
                    limit,
                    host_alive: self.host_heartbeat() != heartbeat,
                });
            }
            if waited >= YIELD {
                sleep((waited / 16).min(NAP).min(limit - waited));
            } else if waited >= SPIN {
                yield_now();
            }
        }
    }
}
