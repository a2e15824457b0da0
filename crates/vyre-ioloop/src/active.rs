//! Devices that cannot ring.

use std::sync::Arc;

use crate::commands::ControlFlags;

/// Keeps loops from sleeping for long, from [`IoLoop::active`](crate::IoLoop::active) or
/// [`LoopGroup::active`](crate::LoopGroup::active) until it is dropped.
///
/// A GPU cannot wake a thread. A program that launches a kernel, which makes requests, takes a guard before the launch
/// and drops it after the kernel has ended. Meanwhile a loop with [`WaitPolicy::Doorbell`](crate::WaitPolicy::Doorbell)
/// waits as by [`WaitPolicy::ADAPTIVE`](crate::WaitPolicy::ADAPTIVE). The other policies take no notice. Several guards
/// may exist at once.
///
/// ```
/// use vyre_ioloop::{IoLoop, LoopOptions, WaitPolicy};
/// use vyre_ioq::{Features, Queue, QueueLayout};
///
/// let layout = QueueLayout::with_slots(64).with_features(Features::DOORBELL);
/// let (host, device) = Queue::anonymous(layout)?;
/// let options = LoopOptions::new().wait_policy(WaitPolicy::DOORBELL);
/// let io = IoLoop::builder().queue(host).options(options).spawn()?;
///
/// let active = io.active();
/// // Launch a kernel, and wait until it has ended.
/// drop(active);
/// # io.stop()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping it lets the loops sleep"]
pub struct ActiveGuard(Vec<Arc<ControlFlags>>);

impl ActiveGuard {
    pub(crate) fn new(loops: Vec<Arc<ControlFlags>>) -> Self {
        loops.iter().for_each(|flags| flags.activate());
        Self(loops)
    }
}

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.0.iter().for_each(|flags| flags.deactivate());
    }
}
