//! Doorbell of the device end: it wakes a host that sleeps.

use super::DeviceQueue;
use crate::layout::Features;
use crate::queue_header::Header;
use crate::sync::{Ordering, fence};

impl DeviceQueue {
    /// Returns the doorbell word, or zero in a queue without a header.
    ///
    /// A device end of another kind that takes this one's place must continue from this value. Only a
    /// change has a meaning for the host. The load is relaxed.
    pub fn doorbell(&self) -> u32 {
        Header::of(&self.region, &self.geometry).doorbell()
    }

    /// Rings the doorbell if the host sleeps. Returns whether the host must now be woken, by the means that
    /// both sides have agreed on outside the queue.
    ///
    /// The lane that published calls this after each [`publish`](Self::publish) or
    /// [`submit`](Self::submit), or once after several. It always returns `false` in a queue without
    /// [`Features::DOORBELL`], whose host does not sleep without a time limit.
    ///
    /// The call begins with a sequentially consistent fence, paired with the one in
    /// [`HostQueue::announce_sleep`](crate::HostQueue::announce_sleep). If the host's last sweep missed the
    /// publication, this finds the announcement of the sleep.
    #[must_use = "the host sleeps on unless it is woken"]
    pub fn ring(&self) -> bool {
        if !self.features.contains(Features::DOORBELL) {
            return false;
        }
        fence(Ordering::SeqCst);
        let header = Header::of(&self.region, &self.geometry);
        if !header.is_asleep() {
            return false;
        }
        // No two rings store the same value. If lanes added one to the shared word itself, a slow lane
        // could restore the value that the host sleeps on after a fast one rang. Relaxed: it matters only
        // that the values differ.
        let before = self.rings.fetch_add(1, Ordering::Relaxed);
        header.set_doorbell(before.wrapping_add(1));
        true
    }

    /// Rings the doorbell if the host sleeps, and wakes the host by the futex in the doorbell word. Returns
    /// whether the host slept.
    ///
    /// Call this where [`ring`](Self::ring) would be called. A host that is awake costs no system call. A host
    /// that sleeps on something else is not woken. The futex is a shared one (without `FUTEX_PRIVATE_FLAG`), so
    /// the host may be in another process.
    ///
    /// [`wait`](Self::wait) and the other waits call this first.
    #[cfg(all(feature = "std", target_os = "linux"))]
    pub fn ring_and_wake(&self) -> bool {
        let asleep = self.ring();
        if asleep {
            Header::of(&self.region, &self.geometry).wake_host();
        }
        asleep
    }
}
