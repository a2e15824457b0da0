//! Queues for loops that are running already.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vyre_ioloop::{LoopOptions, WaitPolicy};
use vyre_ioq::{DeviceQueue, HostQueue, Queue, QueueLayout};
use vyre_uring::{KernelFeatures, TransportChoice};

use super::{layout, memory_with, region_of, withheld};

const HOUR: Duration = Duration::from_secs(3600);

/// Says when it is dropped, as the memory of a queue.
struct Owned(Arc<AtomicBool>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Makes a queue in memory of the test's, and a flag that is set once nothing has the memory any more.
pub(crate) fn watched(layout: QueueLayout) -> (HostQueue, DeviceQueue, Arc<AtomicBool>) {
    let freed = Arc::new(AtomicBool::new(false));
    let memory = memory_with(layout.bytes(), Owned(freed.clone()));
    let region = region_of(memory);
    let (host, device) = match layout.is_bare() {
        false => Queue::in_region(region, layout).unwrap(),
        true => {
            let device = DeviceQueue::attach_bare(region.clone()).unwrap();
            (HostQueue::attach_bare(region).unwrap(), device)
        }
    };
    (host, device, freed)
}

pub(crate) fn plain() -> (HostQueue, DeviceQueue) {
    Queue::anonymous(layout(16)).unwrap()
}

/// Policies and transports: a loop that is added to may be in any kind of sleep.
pub(crate) fn ways() -> Vec<LoopOptions> {
    let policies = [
        WaitPolicy::Spin,
        WaitPolicy::ADAPTIVE,
        // Nothing but what ends the sleep on purpose does.
        WaitPolicy::doorbell(0, HOUR),
    ];
    let on = |policy, (transport, without)| {
        let options = LoopOptions::new().wait_policy(policy);
        options
            .transport(transport)
            .withhold(withheld().union(without))
    };
    let transports = [
        (TransportChoice::Auto, KernelFeatures::empty()),
        (TransportChoice::ThreadPool, KernelFeatures::empty()),
        // Other threads wait on the doorbells.
        (TransportChoice::Auto, KernelFeatures::FUTEX_WAIT),
    ];
    let each = |transport| policies.map(|policy| on(policy, transport));
    transports.into_iter().flat_map(each).collect()
}
