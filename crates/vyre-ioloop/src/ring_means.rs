//! The means by which devices wake a loop.

/// The way in which a device that rings wakes a sleeping loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingMeans {
    /// FUTEX_WAKE on the doorbell word. [`DeviceQueue::ring_and_wake`](vyre_ioq::DeviceQueue::ring_and_wake) calls it,
    /// and so do `vyre_ioq_ring_and_wake` of the C headers and every wait of a device end.
    ///
    /// It works on every kernel. The loop notices it by the best means that the kernel has; [`SetupReport::futexes`] of
    /// [`IoLoop::report`](crate::IoLoop::report) says which. On a ring before Linux 6.7, and on threads before Linux 5.16
    /// or with more than 127 queues, these are further threads, so that the loop wakes later. Before Linux 5.16, there
    /// are at most 16 of them, and a loop with more queues sleeps for short times only.
    ///
    /// [`SetupReport::futexes`]: vyre_uring::SetupReport::futexes
    #[default]
    Futex,
    /// The loop's [waker](crate::IoLoop::waker), or its [eventfd](crate::IoLoop::wake_fd) in another process, once
    /// [`DeviceQueue::ring`](vyre_ioq::DeviceQueue::ring) has returned true. It works on every kernel, and for devices
    /// whose sandbox forbids futex(2).
    Waker,
}
