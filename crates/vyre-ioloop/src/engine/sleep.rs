//! The limits on an engine's sleep, whatever its driver requests.

use std::time::Duration;

use vyre_uring::Transport;

use super::Engine;
use crate::wait_policy::FIRST_SLEEP;

/// The longest sleep of a loop that waits for flushes of other loops.
const UNSETTLED: Duration = Duration::from_micros(100);

impl<T: Transport> Engine<T> {
    /// Shortens a sleep so that it ends at the next deadline of a claimed request. The clock is
    /// read only if there is one.
    pub(super) fn longest_sleep(&self, timeout: Duration) -> Duration {
        let timeout = if self.state.unconfirmed.is_empty() {
            timeout
        } else {
            // Another loop's flush is waited for, and nothing of ours may end with it.
            timeout.min(UNSETTLED)
        };
        match self.until_due() {
            // Not for no time at all: one that is due and cannot be cancelled yet is not to cost a
            // core.
            Some(left) => left.max(FIRST_SLEEP).min(timeout),
            None => timeout,
        }
    }
}
