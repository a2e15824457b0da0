//! What the builders of a loop and of several have in common.

use std::time::Duration;

use crate::commands::{Ending, Patience};
use crate::wait_policy::Policy;

/// How a loop waits, ends, and how large its ring is; see [`setters`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) policy: Policy,
    pub(crate) entries: u32,
    pub(crate) live_entries: u32,
    pub(crate) drain_timeout: Duration,
    pub(crate) abort_timeout: Duration,
    /// Time that the thread may take beyond the other two, to notice the request and to exit.
    pub(crate) margin: Duration,
}

impl Settings {
    /// Returns the longest time that the end of a loop may take.
    pub(crate) const fn longest_end(&self, ending: Ending) -> Duration {
        let aborted = self.abort_timeout.saturating_add(self.margin);
        match ending {
            Ending::None | Ending::Drain => self.drain_timeout.saturating_add(aborted),
            Ending::Abort => aborted,
        }
    }
}

impl Settings {
    /// Returns the patience of a revocation without a timeout of its own: that of a stop.
    pub(crate) const fn patience(&self) -> Patience {
        self.patience_of(self.drain_timeout)
    }

    /// Returns the patience of a revocation that gives requests a time of its own.
    pub(crate) const fn patience_of(&self, wait: Duration) -> Patience {
        Patience {
            wait,
            grace: self.abort_timeout,
        }
    }

    /// Returns the longest time that the answer to a revocation may take.
    pub(crate) const fn longest_revocation(&self, patience: Patience) -> Duration {
        patience.total().saturating_add(self.margin)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            entries: 256,
            live_entries: 64,
            drain_timeout: Duration::from_secs(30),
            abort_timeout: Duration::from_secs(5),
            margin: Duration::from_secs(5),
        }
    }
}

/// The methods of a builder whose field `$at` is [`Settings`].
macro_rules! setters {
    ($($at:ident).+) => {
        /// How a loop waits for work: [`Policy::ADAPTIVE`](crate::Policy::ADAPTIVE) unless said
        /// otherwise.
        pub fn policy(mut self, policy: crate::Policy) -> Self {
            self.$($at).+.policy = policy;
            self
        }

        /// Sets the entries of a ring's submission queue, rounded up to a power of two, and at
        /// least two for each queue: 256 by default. Requests beyond what the ring takes wait in
        /// the host; none is refused.
        pub fn ring_entries(mut self, entries: u32) -> Self {
            self.$($at).+.entries = entries;
            self
        }

        /// Places for files and for buffers that are added while a loop runs, beyond those given
        /// to the builder: 64 each unless said otherwise.
        pub fn live_entries(mut self, entries: u32) -> Self {
            self.$($at).+.live_entries = entries;
            self
        }

        /// How long a stop lets claimed requests run before it cancels them: 30 seconds unless
        /// said otherwise.
        pub fn drain_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.$($at).+.drain_timeout = timeout;
            self
        }

        /// Sets how long a loop waits for the kernel to give cancelled requests back before it
        /// leaks their buffers: 5 seconds by default. The time counts once for a whole end of
        /// service.
        pub fn abort_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.$($at).+.abort_timeout = timeout;
            self
        }
    };
}
pub(crate) use setters;
