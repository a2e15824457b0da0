//! The means by which devices wake a loop.

/// The way in which a device that rings wakes a sleeping loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingMeans {
    /// FUTEX_WAKE on the doorbell word. [`DeviceQueue::ring_and_wake`](vyre_ioq::DeviceQueue::ring_and_wake) calls it,
    /// and so do `vyre_ioq_ring_and_wake` of the C headers and every wait of a device end. The loop needs Linux 6.7 for
    /// it, or Linux 5.16 if it uses threads, and otherwise sleeps for short times only.
    #[default]
    Futex,
    /// The loop's [waker](crate::IoLoop::waker), or its [eventfd](crate::IoLoop::wake_fd) in another process, once
    /// [`DeviceQueue::ring`](vyre_ioq::DeviceQueue::ring) has returned true. It works on every kernel, and for devices
    /// whose sandbox forbids futex(2). A loop on threads has no eventfd.
    Waker,
}
