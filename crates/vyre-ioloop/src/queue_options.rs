//! A queue to serve, and its limits.

use vyre_ioq::HostQueue;

/// The most that the requests of one queue may use. A request beyond a limit waits in the host until it is
/// its turn; none is rejected for it.
///
/// Limits count operations, which are what the loop asks of the kernel. A READ or WRITE of up to 1 MiB is one
/// operation, and a longer one is several: of up to 1 MiB each, or 16 MiB if it is direct or DURABLE. A PREFETCH
/// is one for each piece that the kernel reads ahead at once. SYNCs of a file that share a flush are one
/// operation together. Each operation counts with the bytes that it asks for, of which it may move fewer. A FENCE
/// is no operation, nor is a rejected request.
///
/// A number of 0 counts as 1.
///
/// ```
/// use vyre_ioloop::QueueLimits;
///
/// let limits = QueueLimits::new()
///     .operations_per_second(1_000)
///     .bytes_per_second(10_000_000)
///     .operations_in_flight(16);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "give it to a queue"]
pub struct QueueLimits {
    pub(crate) operations_per_second: u64,
    pub(crate) bytes_per_second: u64,
    pub(crate) operations: u32,
    pub(crate) bytes: u64,
}

impl QueueLimits {
    /// No limits, as a queue has by default.
    pub const NONE: Self = Self {
        operations_per_second: u64::MAX,
        bytes_per_second: u64::MAX,
        operations: u32::MAX,
        bytes: u64::MAX,
    };

    /// Creates limits that limit nothing yet.
    pub const fn new() -> Self {
        Self::NONE
    }

    /// Sets the number of operations that may start in a second. They are paced: after a pause, those of up to
    /// 5 milliseconds may start at once. A rate above 10⁹ is no limit.
    pub const fn operations_per_second(mut self, operations: u64) -> Self {
        self.operations_per_second = operations;
        self
    }

    /// Sets the number of bytes that operations may ask for in a second. The next operation starts when the
    /// bytes of the one before are paid for, as with
    /// [`operations_per_second`](Self::operations_per_second).
    pub const fn bytes_per_second(mut self, bytes: u64) -> Self {
        self.bytes_per_second = bytes;
        self
    }

    /// Sets the number of operations that may be in flight at a time. The queue's part of the ring limits them
    /// in any case.
    pub const fn operations_in_flight(mut self, operations: u32) -> Self {
        self.operations = operations;
        self
    }

    /// Sets the number of bytes of buffers that operations in flight may use. An operation starts while fewer are in
    /// use, so the last one may exceed the limit by up to its own bytes.
    pub const fn bytes_in_flight(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self::NONE
    }
}

/// A queue to serve, and its limits. A [`HostQueue`] converts into one without limits.
#[derive(Debug)]
#[must_use = "give it to a loop"]
pub struct QueueOptions {
    pub(crate) host: HostQueue,
    pub(crate) limits: QueueLimits,
}

impl QueueOptions {
    /// Creates options for a queue without limits.
    pub const fn new(host: HostQueue) -> Self {
        Self {
            host,
            limits: QueueLimits::NONE,
        }
    }

    /// Sets the limits.
    pub const fn limits(mut self, limits: QueueLimits) -> Self {
        self.limits = limits;
        self
    }
}

impl From<HostQueue> for QueueOptions {
    fn from(host: HostQueue) -> Self {
        Self::new(host)
    }
}
