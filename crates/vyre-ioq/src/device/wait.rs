//! Waits that a clock bounds and that end when the host is gone.

use core::time::Duration;

use super::{DeviceQueue, Outcome, Ticket};
use crate::queue_header::LoopState;
use crate::sync::{Instant, sleep, spin_loop, yield_now};

/// Time limit of [`DeviceQueue::wait`].
const DEFAULT_LIMIT: Duration = Duration::from_secs(30);
/// Polls between two checks of the clock and of the header.
const POLLS: u32 = if cfg!(loom) { 1 } else { 64 };
/// Time for which a wait only spins: longer than a cached read takes.
const SPIN: Duration = Duration::from_micros(20);
/// Time after which a wait sleeps instead of yielding: longer than a fast drive takes. A lane that goes on
/// would keep a core from the threads that do its work.
const YIELD: Duration = Duration::from_micros(100);
/// Longest single sleep of a thread that nobody wakes.
const NAP: Duration = Duration::from_millis(1);
/// Longest single sleep of a thread that the host wakes: it looks at the heartbeat of a host that may be dead.
#[cfg(all(target_os = "linux", not(loom)))]
const ARMED_NAP: Duration = Duration::from_millis(100);

/// Limits of a wait for an outcome.
///
/// ```
/// use std::time::Duration;
/// use vyre_ioq::{Queue, QueueLayout, Request, WaitError, WaitLimits};
///
/// let (_host, device) = Queue::anonymous(QueueLayout::with_slots(1))?;
/// let ticket = device.submit(Request::fence())?;
/// // This host has no heartbeat, as if it had been killed.
/// let limits =
///     WaitLimits::new(Duration::from_secs(60)).with_heartbeat_timeout(Duration::from_millis(20));
/// let gone = device.wait_with(ticket, limits).expect_err("nobody serves");
/// assert!(matches!(gone, WaitError::HeartbeatTimedOut { .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct WaitLimits {
    time: Duration,
    heartbeat_timeout: Option<Duration>,
}

impl WaitLimits {
    /// Returns limits that end a wait after `time`.
    pub const fn new(time: Duration) -> Self {
        Self {
            time,
            heartbeat_timeout: None,
        }
    }

    /// Also ends the wait when the host's heartbeat has not moved for `heartbeat_timeout`, because the
    /// host was killed or is late.
    ///
    /// A host that sleeps moves its heartbeat late too, so allow at least a second. Zero is no limit, which
    /// is the default. A bare queue has no heartbeat, so a wait there ends by time alone.
    pub const fn with_heartbeat_timeout(mut self, heartbeat_timeout: Duration) -> Self {
        self.heartbeat_timeout = if heartbeat_timeout.is_zero() {
            None
        } else {
            Some(heartbeat_timeout)
        };
        self
    }
}

/// Reason why a wait ended without an outcome.
///
/// The host may still serve the request. Its buffer must not be used until there is an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unanswered {
    /// The host has stopped or failed and left this request without an outcome.
    #[error("the host is gone and left the request unanswered")]
    HostGone,
    /// The heartbeat has not moved for as long as the limits allow.
    #[error("the host's heartbeat has not moved for {heartbeat_timeout:?}: it is dead, or late")]
    HeartbeatTimedOut {
        /// Time for which it has not moved, at least.
        heartbeat_timeout: Duration,
    },
    /// The time limit has passed.
    #[error(
        "no outcome in {limit:?}; the host's heartbeat {}",
        if *.host_moved { "moved: wait on" } else { "has not moved in that time" }
    )]
    TimedOut {
        /// Time limit of the wait.
        limit: Duration,
        /// Set if the host's heartbeat moved during the wait. A live host moves it a few times a second, so
        /// `false` says nothing about a shorter wait. It is always `false` for a bare queue, which has no
        /// heartbeat.
        host_moved: bool,
    },
}

/// Reason why a wait ended without an outcome, with the ticket of the request.
///
/// The host may still serve the request. Its buffer must not be used until the outcome is taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The host has stopped or failed and left this request without an outcome.
    #[error("the host is gone and left slot {} unanswered", .0.slot())]
    HostGone(Ticket),
    /// The heartbeat has not moved for as long as [`WaitLimits::with_heartbeat_timeout`] allows.
    #[error(
        "no outcome for slot {}; the host's heartbeat has not moved for {heartbeat_timeout:?}: it is \
         dead, or late",
        .ticket.slot()
    )]
    HeartbeatTimedOut {
        /// Ticket of the request.
        ticket: Ticket,
        /// Time for which it has not moved, at least.
        heartbeat_timeout: Duration,
    },
    /// The time limit has passed.
    #[error(
        "no outcome for slot {} in {limit:?}; the host's heartbeat {}",
        .ticket.slot(),
        if *.host_moved { "moved: wait on" } else { "has not moved in that time" }
    )]
    TimedOut {
        /// Ticket of the request.
        ticket: Ticket,
        /// Time limit of the wait.
        limit: Duration,
        /// Set if the host's heartbeat moved during the wait. A live host moves it a few times a second, so
        /// `false` says nothing about a shorter wait. It is always `false` for a bare queue, which has no
        /// heartbeat.
        host_moved: bool,
    },
}

impl WaitError {
    /// Returns the ticket, to wait again or to poll later.
    pub fn into_ticket(self) -> Ticket {
        match self {
            Self::HostGone(ticket)
            | Self::HeartbeatTimedOut { ticket, .. }
            | Self::TimedOut { ticket, .. } => ticket,
        }
    }

    fn of(unanswered: Unanswered, ticket: Ticket) -> Self {
        match unanswered {
            Unanswered::HostGone => Self::HostGone(ticket),
            Unanswered::HeartbeatTimedOut { heartbeat_timeout } => Self::HeartbeatTimedOut {
                ticket,
                heartbeat_timeout,
            },
            Unanswered::TimedOut { limit, host_moved } => Self::TimedOut {
                ticket,
                limit,
                host_moved,
            },
        }
    }
}

/// The host's heartbeat during one wait.
struct Watch {
    first: Option<u32>,
    beat: Option<u32>,
    /// Time from the beginning of the wait to the first check that found the current beat. `None` before the
    /// first check: a late check is no evidence of how long the beat has stood still.
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

    /// Records a check and returns for how long the heartbeat is known to have stood still.
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
    /// Waits for an outcome for at most 30 seconds and gives the slot back.
    ///
    /// # Errors
    /// The same as for [`wait_with`](Self::wait_with).
    ///
    /// # Panics
    /// If the ticket comes from another queue.
    pub fn wait(&self, ticket: Ticket) -> Result<Outcome, WaitError> {
        self.wait_for(ticket, DEFAULT_LIMIT)
    }

    /// Waits for an outcome for at most `limit` and gives the slot back.
    ///
    /// If the host was killed, this waits for the whole limit; [`wait_with`](Self::wait_with) can end
    /// sooner.
    ///
    /// # Errors
    /// The same as for [`wait_with`](Self::wait_with).
    ///
    /// # Panics
    /// If the ticket comes from another queue.
    pub fn wait_for(&self, ticket: Ticket, limit: Duration) -> Result<Outcome, WaitError> {
        self.wait_with(ticket, WaitLimits::new(limit))
    }

    /// Waits for an outcome within `limits` and gives the slot back.
    ///
    /// On Linux, the wait begins with [`ring_and_wake`](Self::ring_and_wake), so that a lane that waits for each
    /// of its requests need not ring. It spins at first, then yields, then sleeps for a sixteenth of the time it has
    /// waited, but at most a millisecond at once.
    ///
    /// # Errors
    /// [`WaitError::HostGone`] if the host has ended without an outcome for this request;
    /// [`WaitError::HeartbeatTimedOut`] if the heartbeat has not moved for its own limit;
    /// [`WaitError::TimedOut`] if the time limit has passed. Each returns the ticket.
    ///
    /// # Panics
    /// If the ticket comes from another queue.
    pub fn wait_with(&self, ticket: Ticket, limits: WaitLimits) -> Result<Outcome, WaitError> {
        match self.poll_within(&ticket, limits) {
            Ok(outcome) => {
                self.unlock(ticket.slot);
                Ok(outcome)
            }
            Err(unanswered) => Err(WaitError::of(unanswered, ticket)),
        }
    }

    /// Rings, then polls until there is an outcome or a limit is reached.
    pub(super) fn poll_within(
        &self,
        ticket: &Ticket,
        limits: WaitLimits,
    ) -> Result<Outcome, Unanswered> {
        let WaitLimits {
            time: limit,
            heartbeat_timeout,
        } = limits;
        #[cfg(target_os = "linux")]
        self.ring_and_wake();
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
                // The acquire load of the state came first: an outcome that the host stored is visible.
                return self.poll(ticket).ok_or(Unanswered::HostGone);
            }
            let waited = started.get_or_insert_with(Instant::now).elapsed();
            let heard = self.host_heartbeat();
            let still = watch.still(heard, waited);
            if let Some(heartbeat_timeout) = heartbeat_timeout
                && heard.is_some()
                && still >= heartbeat_timeout
            {
                return self
                    .poll(ticket)
                    .ok_or(Unanswered::HeartbeatTimedOut { heartbeat_timeout });
            }
            if waited >= limit {
                return self.poll(ticket).ok_or_else(|| Unanswered::TimedOut {
                    limit,
                    host_moved: watch.moved(),
                });
            }
            if waited >= YIELD {
                self.nap(ticket, waited, limit - waited);
            } else if waited >= SPIN {
                yield_now();
            }
        }
    }
}

impl DeviceQueue {
    /// Sleeps for a short time, or until the host wakes the device if it does.
    #[cfg(all(target_os = "linux", not(loom)))]
    fn nap(&self, ticket: &Ticket, waited: Duration, left: Duration) {
        if !self.expects_wakeups() {
            return sleep((waited / 16).min(NAP).min(left));
        }
        if let Some(before) = self.arm()
            && self.poll(ticket).is_none()
            && !self.host_state().is_some_and(LoopState::is_gone)
        {
            self.sleep_until_woken(before, Some(left.min(ARMED_NAP)));
        }
    }

    #[cfg(not(all(target_os = "linux", not(loom))))]
    fn nap(&self, _: &Ticket, waited: Duration, left: Duration) {
        sleep((waited / 16).min(NAP).min(left));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_late_check_is_no_evidence_of_a_dead_host() {
        let second = Duration::from_secs(1);
        let mut watch = Watch::new(Some(7));
        assert_eq!(watch.still(Some(7), 10 * second), Duration::ZERO);
        assert_eq!(watch.still(Some(7), 12 * second), 2 * second);
        assert!(!watch.moved());
        // The waiting thread was stopped for an hour. The host was not.
        assert_eq!(watch.still(Some(9), 3600 * second), Duration::ZERO);
        assert_eq!(watch.still(Some(9), 3601 * second), second);
        assert!(watch.moved());
    }
}
