//! Options of the insertion of a buffer.

use crate::queue_id::QueueId;
use crate::rights::Rights;

/// The rights of a new handle, and the queue that may name it. [`Rights`] convert into it.
///
/// ```
/// use vyre_ioloop::{BufferOptions, BufferTable, QueueId, Rights};
/// use vyre_uring::Buffer;
///
/// let mut buffers = BufferTable::new();
/// let options = BufferOptions::new(Rights::READ | Rights::WRITE).only_for(QueueId::from_raw(0));
/// let pool = buffers.insert_range(Buffer::anonymous(1 << 16)?, .., options)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "give it to an insertion"]
pub struct BufferOptions {
    pub(crate) rights: Rights,
    pub(crate) queue: Option<QueueId>,
}

impl BufferOptions {
    /// Creates options with these rights, for every queue.
    pub const fn new(rights: Rights) -> Self {
        Self {
            rights,
            queue: None,
        }
    }

    /// Binds the handle to one queue: requests of every other queue that name it get EBADF, as if the
    /// handle did not exist. See [`FileOptions::only_for`](crate::FileOptions::only_for).
    pub const fn only_for(mut self, queue: QueueId) -> Self {
        self.queue = Some(queue);
        self
    }
}

impl From<Rights> for BufferOptions {
    fn from(rights: Rights) -> Self {
        Self::new(rights)
    }
}
