//! Sleep of a device until there is an outcome.

use super::DeviceQueue;
use crate::layout::Features;
use crate::queue_header::Header;
use crate::sync::{Ordering, fence};

impl DeviceQueue {
    /// Tells the host that threads of this device sleep until there are outcomes. Returns `false` in a queue without
    /// [`Features::WAKE`], whose host wakes nobody.
    ///
    /// Call it before the first request is published for whose outcome a thread may sleep: once for the device, if all
    /// threads that publish have learned of it, or in each of them. The host looks for sleeping threads only once it
    /// knows, and it learns that when it claims such a request. From then on, it executes a fence after each run of
    /// outcomes of this queue.
    ///
    /// On Linux, [`wait`](Self::wait) and the other waits sleep until they are woken from then on, instead of polling from
    /// time to time.
    pub fn expect_wakeups(&self) -> bool {
        if !self.features.contains(Features::WAKE) {
            return false;
        }
        // In each call, and not in the first one alone: what this thread publishes later comes after its own store.
        self.store_next_number();
        self.expects.store(true, Ordering::Relaxed);
        true
    }

    /// Returns whether [`expect_wakeups`](Self::expect_wakeups) was called, in a queue that offers it.
    pub fn expects_wakeups(&self) -> bool {
        self.expects.load(Ordering::Relaxed)
    }

    /// Announces that a thread is about to sleep until there is an outcome, and returns the number of wake-ups so far.
    /// Returns `None` in a queue without [`Features::WAKE`].
    ///
    /// After this, [`poll`](Self::poll) every request that the thread waits for, and look at
    /// [`host_state`](Self::host_state). If there is no outcome and the host has not gone, sleep while
    /// [`wakeups`](Self::wakeups) returns what this returned. The host wakes the device for the next run of outcomes, by
    /// the futex in the word, or by the means that both sides have agreed on outside the queue. One wake-up uses up all
    /// announcements before it: a thread that still finds no outcome calls this again.
    ///
    /// The host wakes one thread. If several sleep, each must wake the others, as
    /// [`sleep_until_woken`](Self::sleep_until_woken) does.
    ///
    /// The call ends with a sequentially consistent fence, paired with the one in
    /// [`HostQueue::wake_device`](crate::HostQueue::wake_device). If the host's fence comes first, the outcome that was
    /// stored before it is visible after this one. Otherwise, the host finds the announcement. That holds for requests
    /// that were published after [`expect_wakeups`](Self::expect_wakeups).
    #[must_use = "sleep only while the wake-ups stay as this says"]
    pub fn arm(&self) -> Option<u32> {
        let before = self.wakeups()?;
        self.store_next_number();
        fence(Ordering::SeqCst);
        Some(before)
    }

    /// Returns the number of times that the host woke this device, or `None` in a queue without [`Features::WAKE`]. Only a
    /// change has a meaning. The load is an acquire: whoever sees a change also sees the outcomes that it is for.
    pub fn wakeups(&self) -> Option<u32> {
        let offered = self.features.contains(Features::WAKE);
        offered.then(|| Header::of(&self.region, &self.geometry).wakeups())
    }

    /// Stores a number to ARMED that was never stored there. If threads added one to the shared word itself, a slow thread
    /// could restore the number from which the host has woken the device, and sleep for ever. Relaxed: it matters only
    /// that the numbers differ.
    fn store_next_number(&self) {
        let mut number = 0;
        // Zero says that nobody sleeps.
        while number == 0 {
            number = self.arms.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        }
        Header::of(&self.region, &self.geometry).set_armed(number);
    }
}

#[cfg(all(feature = "std", target_os = "linux", not(loom)))]
impl DeviceQueue {
    /// Sleeps until the host wakes this device by the futex, or until the time is over. Returns at once if the host has
    /// woken the device since [`arm`](Self::arm) returned `before`. May return early for other reasons.
    ///
    /// The futex is a shared one (without `FUTEX_PRIVATE_FLAG`), so the host may be in another process. A thread that was
    /// woken wakes the other threads that sleep here.
    pub fn sleep_until_woken(&self, before: u32, limit: Option<core::time::Duration>) {
        // Relaxed: a read-modify-write finds the last value. Who waits in the kernel when the host wakes one thread has
        // counted itself by then.
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        let header = Header::of(&self.region, &self.geometry);
        header.sleep(before, limit);
        let others = self.sleepers.fetch_sub(1, Ordering::Relaxed) > 1;
        if others && header.wakeups() != before {
            header.wake_device(crate::queue_header::EVERYBODY);
        }
    }
}
