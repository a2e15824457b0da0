//! Sleeping until the device rings. Each side stores what the other loads, with a fence between:
//! at least one of them sees what the other did.

use super::HostQueue;
use crate::queue_header::Features;
use crate::sync::{Ordering, fence};

impl HostQueue {
    /// Announces that the host is about to sleep, and returns the doorbell as it was before. Nothing
    /// for a queue without [`Features::DOORBELL`]: nobody rings there, and a sleep needs a bound.
    ///
    /// After this, call [`claim_published`](Self::claim_published) for every slot once more. Only if
    /// that finds nothing, sleep, for as long as [`doorbell`](Self::doorbell) gives what this
    /// returned. Either way, call [`wake`](Self::wake) then, and look at every slot.
    ///
    /// A sleep without a bound loses requests if a device end does not
    /// [`ring`](crate::DeviceQueue::ring): one that does not know the feature may attach.
    ///
    /// Ends with a sequentially consistent fence, paired with the one in
    /// [`DeviceQueue::ring`](crate::DeviceQueue::ring). Whichever comes first: a request that was
    /// published before the device's fence is visible after this one, or the announcement before
    /// this one is visible after the device's, which then rings.
    ///
    /// ```
    /// use vyre_ioq::{Features, Queue, QueueLayout, Request};
    ///
    /// let layout = QueueLayout::with_slots(64).with_features(Features::DOORBELL);
    /// let (mut host, device) = Queue::anonymous(layout)?;
    ///
    /// let before = host.announce_sleep();
    /// assert_eq!(host.claim_published(0..64, drop), 0);
    /// // Nothing there: the host sleeps while this holds.
    /// assert_eq!(host.doorbell(), before);
    ///
    /// let _ticket = device.submit(Request::fence())?;
    /// assert!(device.ring(), "the host is to be woken");
    /// assert_ne!(host.doorbell(), before);
    /// host.wake();
    /// assert_eq!(host.claim_published(0..64, drop), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "sleep only while the doorbell stays as this says"]
    pub fn announce_sleep(&mut self) -> Option<u32> {
        let before = self.doorbell()?;
        self.header().set_asleep(true);
        fence(Ordering::SeqCst);
        Some(before)
    }

    /// The doorbell: a word that changes when the device rings. Only change means anything. Nothing
    /// for a queue without [`Features::DOORBELL`].
    ///
    /// A relaxed load. It orders nothing: look at the slots after [`wake`](Self::wake), and again
    /// after the next [`announce_sleep`](Self::announce_sleep), which finds what this look missed.
    pub fn doorbell(&self) -> Option<u32> {
        self.features
            .contains(Features::DOORBELL)
            .then(|| self.header().doorbell())
    }

    /// Says that the host is awake: the device need not ring. Nothing happens in a queue without
    /// [`Features::DOORBELL`].
    ///
    /// A relaxed store: a device that sees it late rings once too often.
    pub fn wake(&mut self) {
        if self.features.contains(Features::DOORBELL) {
            self.header().set_asleep(false);
        }
    }
}
