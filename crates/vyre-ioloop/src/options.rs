//! Settings that a loop and a group of loops share.

use std::time::Duration;

use vyre_uring::{KernelFeatures, TransportChoice};

use crate::ring_means::RingMeans;
use crate::wait_policy::WaitPolicy;

/// Settings of a loop: how it waits and shuts down, and the size of its ring.
///
/// ```
/// use std::time::Duration;
/// use vyre_ioloop::{LoopOptions, WaitPolicy};
///
/// let options = LoopOptions::new()
///     .wait_policy(WaitPolicy::Spin)
///     .ring_entries(1024)
///     .drain_timeout(Duration::from_secs(2));
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "give it to a builder's `options`"]
pub struct LoopOptions {
    pub(crate) wait_policy: WaitPolicy,
    pub(crate) transport: TransportChoice,
    pub(crate) withheld: KernelFeatures,
    pub(crate) ring_means: RingMeans,
    pub(crate) ring_entries: u32,
    pub(crate) live_entries: u32,
    pub(crate) drain_timeout: Duration,
    pub(crate) abort_timeout: Duration,
    /// Time that the thread may take beyond the other two, to notice the request and to exit.
    pub(crate) margin: Duration,
}

impl LoopOptions {
    /// Returns the defaults, which each method states.
    pub const fn new() -> Self {
        Self {
            wait_policy: WaitPolicy::ADAPTIVE,
            transport: TransportChoice::Auto,
            withheld: KernelFeatures::empty(),
            ring_means: RingMeans::Futex,
            ring_entries: 256,
            live_entries: 64,
            drain_timeout: Duration::from_secs(30),
            abort_timeout: Duration::from_secs(5),
            margin: Duration::from_secs(5),
        }
    }

    /// Sets how the loop waits for work. The default is [`WaitPolicy::ADAPTIVE`].
    pub const fn wait_policy(mut self, policy: WaitPolicy) -> Self {
        self.wait_policy = policy;
        self
    }

    /// Sets the means by which devices that ring wake the loop. The default is [`RingMeans::Futex`].
    pub const fn rung_by(mut self, means: RingMeans) -> Self {
        self.ring_means = means;
        self
    }

    /// Sets whether the loop uses io_uring or threads. By default, it uses io_uring, and threads where
    /// the kernel or a sandbox refuses that. [`IoLoop::report`](crate::IoLoop::report) says which.
    pub const fn transport(mut self, choice: TransportChoice) -> Self {
        self.transport = choice;
        self
    }

    /// Treats the kernel as if it lacked these features, to test a program as on an older kernel, or to leave a feature
    /// alone in which a kernel has a fault. By default, nothing is withheld. [`IoLoop::report`](crate::IoLoop::report)
    /// says what a loop does without.
    pub const fn withhold(mut self, features: KernelFeatures) -> Self {
        self.withheld = features;
        self
    }

    /// Sets how many operations of a loop can be in flight: the entries of the ring's submission queue.
    /// The default is 256. The number is rounded up to a power of two, and to at least two for each
    /// queue. Requests beyond what the transport takes wait in the host; none is rejected.
    pub const fn ring_entries(mut self, entries: u32) -> Self {
        self.ring_entries = entries;
        self
    }

    /// Sets how many files, and how many buffers, can be added while the loop runs, beyond those
    /// given to the builder. The default is 64 of each.
    pub const fn live_entries(mut self, entries: u32) -> Self {
        self.live_entries = entries;
        self
    }

    /// Sets how long a stop lets claimed requests run before it cancels them. The default is
    /// 30 seconds.
    pub const fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Sets how long the loop waits for the kernel to give cancelled requests back before it leaks
    /// their buffers. The default is 5 seconds. The time counts once for a whole shutdown.
    pub const fn abort_timeout(mut self, timeout: Duration) -> Self {
        self.abort_timeout = timeout;
        self
    }
}

impl Default for LoopOptions {
    fn default() -> Self {
        Self::new()
    }
}
