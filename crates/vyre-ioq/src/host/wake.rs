//! Wake-ups of a device that sleeps until there is an outcome: the doorbell the other way round.
//!
//! Each end stores what the other loads, with a fence between its store and its load. So at least one of the two sees what
//! the other stored. A host whose device has never slept spends one load, without the fence: such a device stores to ARMED
//! before it publishes the first request for which it may sleep, and whoever claims that request sees the store.

use core::task::Waker;

use super::HostQueue;
use crate::layout::Features;
use crate::sync::{Ordering, fence};

impl HostQueue {
    /// Has the device woken by a waker instead of the futex. The waker is called on the thread that drives the host end,
    /// so it must neither block nor panic: one that writes to an eventfd, or that wakes tasks of this process.
    pub fn wake_device_by(&mut self, waker: Waker) {
        self.waker = Some(waker);
    }

    /// Wakes the device if a thread of it sleeps until there is an outcome. Returns whether it did. Call it after each
    /// run of outcomes.
    ///
    /// The device is woken by the waker of [`wake_device_by`](Self::wake_device_by). Without one, it is woken by the futex
    /// in the word WAKEUPS, on Linux and with the feature `std`. Elsewhere, call [`take_armed`](Self::take_armed)
    /// instead, and wake the device by what both sides have agreed on.
    ///
    /// Where nobody has ever slept, this costs one load.
    ///
    /// ```
    /// use vyre_ioq::{Features, Queue, QueueLayout, Request};
    ///
    /// let layout = QueueLayout::with_slots(64).with_features(Features::WAKE);
    /// let (mut host, device) = Queue::anonymous(layout)?;
    /// assert!(device.expect_wakeups());
    /// let ticket = device.submit(Request::fence())?;
    /// host.claim_published(0..64, drop);
    ///
    /// let before = device.arm();
    /// assert_eq!(device.poll(&ticket), None);
    /// // No outcome: a thread of the device sleeps while this holds.
    /// assert_eq!(device.wakeups(), before);
    ///
    /// host.complete(ticket.slot(), Ok(0))?;
    /// assert!(host.wake_device());
    /// assert_ne!(device.wakeups(), before);
    /// assert!(!host.wake_device(), "once for each sleep");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn wake_device(&mut self) -> bool {
        let wakes = self.take_armed();
        if wakes {
            self.wake_by_means();
        }
        wakes
    }

    /// Returns whether a thread of the device sleeps until there is an outcome, and counts it as woken. The caller must
    /// wake the device if this returns `true`.
    #[inline]
    #[must_use = "the device sleeps on unless it is woken"]
    pub fn take_armed(&mut self) -> bool {
        // Who published a request for which it may sleep stored something else before, so that the claim shows it.
        self.features.contains(Features::WAKE) && self.header().armed() != 0 && self.armed_anew()
    }

    /// Wakes the device because the host has ended. Nothing is known of an arming beside it, so the fence is needed even
    /// if no thread has slept before.
    #[cold]
    pub(super) fn wake_device_at_end(&mut self) {
        if self.features.contains(Features::WAKE) && self.armed_anew() {
            self.wake_by_means();
        }
    }

    /// Returns whether a thread of the device sleeps that was not woken yet.
    ///
    /// The sequentially consistent fence is paired with the one in [`DeviceQueue::arm`](crate::DeviceQueue::arm). If the
    /// device's fence comes first, the load below finds that it is armed. Otherwise, the device finds the outcome, or the
    /// state, that was stored before this.
    #[cold]
    fn armed_anew(&mut self) -> bool {
        fence(Ordering::SeqCst);
        let armed = self.header().armed();
        if armed == self.woken || armed == 0 {
            return false;
        }
        self.woken = armed;
        self.wakeups = self.wakeups.wrapping_add(1);
        self.header().set_wakeups(self.wakeups);
        true
    }

    fn wake_by_means(&self) {
        match &self.waker {
            Some(waker) => waker.wake_by_ref(),
            // One thread alone, which wakes the others: a peer could have any number wait here.
            #[cfg(all(feature = "std", target_os = "linux"))]
            None => self.header().wake_device(1),
            #[cfg(not(all(feature = "std", target_os = "linux")))]
            None => {}
        }
    }
}
