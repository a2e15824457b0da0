//! Limits of a client.

use super::{NO_LIMIT, NO_LIMIT_32};

/// Limits of one client. WELCOME tells them.
///
/// A session enforces the first five. The others are for the loop that serves the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most queues at a time.
    pub queues: u32,
    /// Most slots of a queue.
    pub slots: u32,
    /// Most buffers at a time.
    pub buffers: u32,
    /// Most open files at a time.
    pub open_files: u32,
    /// Most bytes of all buffers, each in whole pages.
    pub buffer_bytes: u64,
    /// Most operations that start in a second, of all queues together.
    pub operations_per_second: u64,
    /// Most bytes that operations ask for in a second, of all queues together.
    pub bytes_per_second: u64,
    /// Most operations in flight, of all queues together.
    pub operations_in_flight: u32,
    /// Most bytes of buffers that operations in flight use, of all queues together.
    pub bytes_in_flight: u64,
}

impl Default for Limits {
    /// 4 queues of at most 1,024 slots, 256 buffers of together at most 256 MiB, 256 open files; the rates and what
    /// is in flight are not limited.
    fn default() -> Self {
        Self {
            queues: 4,
            slots: 1024,
            buffers: 256,
            open_files: 256,
            buffer_bytes: 256 << 20,
            operations_per_second: NO_LIMIT,
            bytes_per_second: NO_LIMIT,
            operations_in_flight: NO_LIMIT_32,
            bytes_in_flight: NO_LIMIT,
        }
    }
}
