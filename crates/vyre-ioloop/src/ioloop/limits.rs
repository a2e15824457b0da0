//! The time limits of a shutdown and of a revocation or a removal, from the options of the loop.

use std::time::Duration;

use crate::commands::{EndLimits, Shutdown};
use crate::options::LoopOptions;

impl LoopOptions {
    /// Returns the longest time that a shutdown may take.
    pub(crate) const fn longest_shutdown(&self, shutdown: Shutdown) -> Duration {
        let aborted = self.abort_timeout.saturating_add(self.margin);
        match shutdown {
            Shutdown::None | Shutdown::Drain => self.drain_timeout.saturating_add(aborted),
            Shutdown::Abort => aborted,
        }
    }

    /// Returns the limits of a revocation or a removal. `wait` replaces the drain timeout, if it is given.
    pub(crate) fn end_limits(&self, wait: Option<Duration>) -> EndLimits {
        EndLimits {
            wait: wait.unwrap_or(self.drain_timeout),
            grace: self.abort_timeout,
        }
    }

    /// Returns the longest time that the answer to a revocation or a removal may take.
    pub(crate) const fn longest_end(&self, limits: EndLimits) -> Duration {
        limits.total().saturating_add(self.margin)
    }
}
