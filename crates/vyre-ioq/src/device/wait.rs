//! Waiting with a clock: bounded, and over when the host is gone.

use core::time::Duration;

use super::{DeviceQueue, Outcome, Ticket};
use crate::queue_header::LoopState;
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

/// Limits of a wait.
///
/// ```
/// use std::time::Duration;
/// use vyre_ioq::{Patience, Queue, QueueLayout, Request, WaitError};
///
/// let (_host, device) = Queue::anonymous(QueueLayout::with_slots(1))?;
/// let ticket = device.submit(Request::fence())?;
/// // The host does not beat: it was killed, say.
/// let patience = Patience::new(Duration::from_secs(60)).standstill(Duration::from_millis(20));
/// let gone = device.wait_with(ticket, patience).expect_err("nobody serves");
/// assert!(matches!(gone, WaitError::HostStill { .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Patience {
    limit: Duration,
    standstill: Option<Duration>,
}

impl Patience {
    /// Returns the patience to wait for an outcome for at most `limit`.
    pub const fn new(limit: Duration) -> Self {
        Self {
            limit,
            standstill: None,
        }
    }

    /// Ends the wait as well when the host's heartbeat has not moved for `standstill`: the host was
    /// killed, or is late. A host that sleeps beats late, too: allow it a second. Zero is no limit, as without
    /// this call. A bare queue has no heartbeat, and its waits end by the limit alone.
    pub const fn standstill(mut self, standstill: Duration) -> Self {
        self.standstill = if standstill.is_zero() {
            None
        } else {
            Some(standstill)
        };
        self
    }
}

/// Reason for which a wait ended without an outcome. The request may still be served, and its buffer must
/// be left alone until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unanswered {
    /// End of the host, which stopped or failed and did not answer this request.
    #[error("the host is gone and left the request unanswered")]
    HostGone,
    /// Standstill of the heartbeat.
    #[error("the host's heartbeat has not moved for {standstill:?}: it is dead, or late")]
    HostStill {
        /// Time that it has stood still, at least.
        standstill: Duration,
    },
    /// Timeout: the limit passed without an outcome.
    #[error(
        "no outcome in {limit:?}; the host's heartbeat {}",
        if *.host_moved { "moved: wait on" } else { "has not moved in that time" }
    )]
    TimedOut {
        /// Time that was waited.
        limit: Duration,
        /// Set if the host's heartbeat moved meanwhile. A host that lives beats a few times a second:
        /// in a shorter wait, `false` says nothing. Always `false` for a bare queue, which has none.
        host_moved: bool,
    },
}

/// Reason for which a wait ended without an outcome, with the ticket. The request may still
/// be served: its buffer must be left alone until the outcome is taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// End of the host, which stopped or failed and did not answer this request.
    #[error("the host is gone and left slot {} unanswered", .0.slot())]
    HostGone(Ticket),
    /// Standstill of the heartbeat, by the limit of [`Patience::standstill`].
    #[error(
        "no outcome for slot {}; the host's heartbeat has not moved for {standstill:?}: it is dead, or \
         late",
        .ticket.slot()
    )]
    HostStill {
        /// Ticket of the request.
        ticket: Ticket,
        /// Time that it has stood still, at least.
        standstill: Duration,
    },
    /// Timeout: the limit passed without an outcome.
    #[error(
        "no outcome for slot {} in {limit:?}; the host's heartbeat {}",
        .ticket.slot(),
        if *.host_moved { "moved: wait on" } else { "has not moved in that time" }
    )]
    TimedOut {
        /// Ticket of the request.
        ticket: Ticket,
        /// Time that was waited.
        limit: Duration,
        /// Set if the host's heartbeat moved meanwhile. A host that lives beats a few times a second:
        /// in a shorter wait, `false` says nothing. Always `false` for a bare queue, which has none.
        host_moved: bool,
    },
}

impl WaitError {
    /// The ticket, to wait on or to poll later.
    pub fn into_ticket(self) -> Ticket {
        match self {
            Self::HostGone(ticket)
            | Self::HostStill { ticket, .. }
            | Self::TimedOut { ticket, .. } => ticket,
        }
    }

    fn of(unanswered: Unanswered, ticket: Ticket) -> Self {
        match unanswered {
            Unanswered::HostGone => Self::HostGone(ticket),
            Unanswered::HostStill { standstill } => Self::HostStill { ticket, standstill },
            Unanswered::TimedOut { limit, host_moved } => Self::TimedOut {
                ticket,
                limit,
                host_moved,
            },
        }
    }
}

/// Heartbeat as the looks of one wait find it.
struct Watch {
    first: Option<u32>,
    beat: Option<u32>,
    /// Time from the beginning of the wait to the first look that found the present beat. None before the
    /// first look: a late look is no evidence of how long the beat has stood still.
    since: Option<Duration>,
}

impl Watch {
    fn new(beat: Option<u32>) -> Self {
        Self {
            first: beat,
            beat,
            since: None,
        }
    }

    /// Records a look and returns how long the heartbeat is known to have stood still.
    fn still(&mut self, heard: Option<u32>, waited: Duration) -> Duration {
        if heard != self.beat {
            self.since = None;
        }
        self.beat = heard;
        waited.saturating_sub(*self.since.get_or_insert(waited))
    }

    fn moved(&self) -> bool {
        self.beat != self.first
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

    /// Waits for an outcome, at most for `limit`, and gives the slot back. A host that was killed costs
    /// the whole limit: [`wait_with`](Self::wait_with) can end sooner.
    ///
    /// # Errors
    /// [`WaitError`], with the ticket.
    ///
    /// # Panics
    /// If the ticket is another queue's.
    pub fn wait_for(&self, ticket: Ticket, limit: Duration) -> Result<Outcome, WaitError> {
        self.wait_with(ticket, Patience::new(limit))
    }

    /// Waits for an outcome as long as `patience` says, and gives the slot back. Spins at first, then
    /// yields, then sleeps for a sixteenth of the time it has waited, at most a millisecond.
    ///
    /// # Errors
    /// [`WaitError`], with the ticket.
    ///
    /// # Panics
    /// If the ticket is another queue's.
    pub fn wait_with(&self, ticket: Ticket, patience: Patience) -> Result<Outcome, WaitError> {
        match self.watch(&ticket, patience) {
            Ok(outcome) => {
                self.unlock(ticket.slot);
                Ok(outcome)
            }
            Err(unanswered) => Err(WaitError::of(unanswered, ticket)),
        }
    }

    /// Polls until there is an outcome or patience ends.
    pub(super) fn watch(&self, ticket: &Ticket, patience: Patience) -> Result<Outcome, Unanswered> {
        let Patience { limit, standstill } = patience;
        let mut started = None;
        let mut watch = Watch::new(self.host_heartbeat());
        loop {
            for _ in 0..POLLS {
                if let Some(outcome) = self.poll(ticket) {
                    return Ok(outcome);
                }
                spin_loop();
            }
            if self.host_state().is_some_and(LoopState::is_gone) {
                // The state's acquire came first: an outcome that the host wrote is visible now.
                return self.poll(ticket).ok_or(Unanswered::HostGone);
            }
            let waited = started.get_or_insert_with(Instant::now).elapsed();
            let heard = self.host_heartbeat();
            let still = watch.still(heard, waited);
            if let Some(standstill) = standstill
                && heard.is_some()
                && still >= standstill
            {
                return self
                    .poll(ticket)
                    .ok_or(Unanswered::HostStill { standstill });
            }
            if waited >= limit {
                return self.poll(ticket).ok_or_else(|| Unanswered::TimedOut {
                    limit,
                    host_moved: watch.moved(),
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_late_look_is_no_evidence_of_a_standstill() {
        let second = Duration::from_secs(1);
        let mut watch = Watch::new(Some(7));
        assert_eq!(watch.still(Some(7), 10 * second), Duration::ZERO);
        assert_eq!(watch.still(Some(7), 12 * second), 2 * second);
        assert!(!watch.moved());
        // Whoever waits was stopped for an hour. The host was not.
        assert_eq!(watch.still(Some(9), 3600 * second), Duration::ZERO);
        assert_eq!(watch.still(Some(9), 3601 * second), second);
        assert!(watch.moved());
    }
}
