//! Sleep of the host end until the device rings the doorbell.
//!
//! Each end stores what the other loads, with a fence between its store and its load. So at least one of
//! the two sees what the other stored.

use super::HostQueue;
use crate::abi::header_word;
use crate::layout::Features;
use crate::sync::{Ordering, fence};

impl HostQueue {
    /// Announces that the host is about to sleep, and returns the doorbell as it was before. Returns `None`
    /// for a queue without [`Features::DOORBELL`]: nobody rings there, and a sleep needs a time limit.
    ///
    /// After this, call [`claim_published`](Self::claim_published) for every slot once more. If that
    /// claims nothing, sleep while [`doorbell`](Self::doorbell) returns what this returned. In either
    /// case, call [`wake`](Self::wake) afterwards and sweep every slot.
    ///
    /// Give the sleep a time limit if a device end that does not know the feature may attach. Such a device
    /// does not [`ring`](crate::DeviceQueue::ring), and a host without a limit would miss its requests.
    ///
    /// The call ends with a sequentially consistent fence, paired with the one in
    /// [`DeviceQueue::ring`](crate::DeviceQueue::ring). If the device's fence comes first, the request that
    /// was published before it is visible after this fence. Otherwise the announcement is visible after the
    /// device's fence, and the device rings.
    ///
    /// ```
    /// use vyre_ioq::{Features, Queue, QueueLayout, Request};
    ///
    /// let layout = QueueLayout::with_slots(64).with_features(Features::DOORBELL);
    /// let (mut host, device) = Queue::anonymous(layout)?;
    ///
    /// let before = host.announce_sleep();
    /// assert_eq!(host.claim_published(0..64, drop), 0);
    /// // No request: the host sleeps while this holds.
    /// assert_eq!(host.doorbell(), before);
    ///
    /// let _ticket = device.submit(Request::fence())?;
    /// assert!(device.ring(), "the host must be woken");
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

    /// Returns the doorbell, a word that changes when the device rings, or `None` for a queue without
    /// [`Features::DOORBELL`]. Only a change has a meaning, not the value.
    ///
    /// The load is relaxed and orders nothing. Sweep the slots after [`wake`](Self::wake), and
    /// again after the next [`announce_sleep`](Self::announce_sleep): the second sweep finds what
    /// the first one missed.
    pub fn doorbell(&self) -> Option<u32> {
        self.features
            .contains(Features::DOORBELL)
            .then(|| self.header().doorbell())
    }

    /// Returns the address of the doorbell word, on which the host can wait as on a futex, or `None` for a queue
    /// without [`Features::DOORBELL`]. The value that such a wait expects is the one that
    /// [`announce_sleep`](Self::announce_sleep) returned, in little-endian order.
    ///
    /// A device wakes the futex with [`DeviceQueue::ring_and_wake`](crate::DeviceQueue::ring_and_wake). Wait
    /// without `FUTEX_PRIVATE_FLAG`: a private wait does not notice other processes.
    pub fn doorbell_ptr(&self) -> Option<*const u32> {
        let offset = header_word::DOORBELL * size_of::<u32>();
        self.features.contains(Features::DOORBELL).then(|| {
            self.region
                .as_ptr()
                .wrapping_add(offset)
                .cast_const()
                .cast()
        })
    }

    /// Publishes that the host is awake, so that the device need not ring. Does nothing in a queue without
    /// [`Features::DOORBELL`].
    ///
    /// The store is relaxed. A device that sees it late rings once too often.
    pub fn wake(&mut self) {
        if self.features.contains(Features::DOORBELL) {
            self.header().set_asleep(false);
        }
    }
}
