//! Waking a host that sleeps.

use super::DeviceQueue;
use crate::queue_header::{Features, Header};
use crate::sync::{Ordering, fence};

impl DeviceQueue {
    /// The doorbell as it stands, zero in a queue without a header: what rings by another device end
    /// in this one's place have to go on from. Only that it changes means anything to the host.
    /// Relaxed.
    pub fn doorbell(&self) -> u32 {
        Header::of(&self.region, &self.geometry).doorbell()
    }

    /// Rings, if the host sleeps. To be called after each [`publish`](Self::publish) or
    /// [`submit`](Self::submit), or once after several, by the lane that published. Whether the host
    /// must now be woken, by the means agreed on outside the queue. Always `false` in a queue
    /// without [`Features::DOORBELL`], whose host does not sleep without a bound.
    ///
    /// Begins with a sequentially consistent fence, paired with the one in
    /// [`HostQueue::announce_sleep`](crate::HostQueue::announce_sleep): a host that does not find
    /// what was published before has announced its sleep, and this sees it.
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
        // No two rings store the same. Had two lanes added one to the word itself, the slower could
        // bring back the value that the host sleeps on, after the faster one rang. Relaxed: only
        // that the values differ matters.
        let before = self.rings.fetch_add(1, Ordering::Relaxed);
        header.set_doorbell(before.wrapping_add(1));
        true
    }
}
