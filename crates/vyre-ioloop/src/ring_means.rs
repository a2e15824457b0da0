//! The means by which devices wake a loop.

/// The way in which a device that rings wakes a sleeping loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingMeans {
    /// By FUTEX_WAKE on the doorbell word, as [`DeviceQueue::ring_and_wake`](vyre_ioq::DeviceQueue::ring_and_wake),
    /// every wait of the device ends and `vyre_ioq_ring_and_wake` of the C headers do. The loop needs Linux 6.7 for
    /// it, or Linux 5.16 if it uses threads, and otherwise sleeps for short times only.
    #[default]
    Futex,
    /// By the loop's [waker](crate::IoLoop::waker) after [`DeviceQueue::ring`](vyre_ioq::DeviceQueue::ring) has
    /// returned true, or from another process by its [eventfd](crate::IoLoop::wake_fd). It works on every kernel, and
    /// for devices whose sandbox forbids futex(2). A loop on threads has no eventfd.
    Waker,
}
