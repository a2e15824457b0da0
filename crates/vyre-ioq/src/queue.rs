//! Creation of both ends of a queue in one process.

use crate::device::DeviceQueue;
use crate::error::AttachError;
use crate::host::HostQueue;
use crate::layout::QueueLayout;
use crate::region::Region;

/// Creates both ends of a queue at once.
///
/// ```
/// use vyre_ioq::{Queue, QueueLayout};
///
/// let (host, device) = Queue::anonymous(QueueLayout::with_slots(64).with_id(7))?;
/// assert_eq!((host.id(), device.id()), (7, 7));
/// assert_eq!(host.geometry(), device.geometry());
/// # Ok::<(), vyre_ioq::AttachError>(())
/// ```
#[derive(Debug)]
pub struct Queue;

impl Queue {
    /// Creates a queue in memory of this process, for lanes that are its threads.
    ///
    /// # Errors
    /// [`AttachError::BadSlotCount`] if the layout has no slots or too many;
    /// [`AttachError::OutOfMemory`] if the allocator has no memory for it.
    pub fn anonymous(layout: QueueLayout) -> Result<(HostQueue, DeviceQueue), AttachError> {
        layout.check()?;
        Self::in_region(Region::allocate(layout.bytes())?, layout)
    }

    /// Creates a queue in memory of the caller's. The previous contents are lost.
    ///
    /// # Errors
    /// The same as for [`HostQueue::create`].
    pub fn in_region(
        region: Region,
        layout: QueueLayout,
    ) -> Result<(HostQueue, DeviceQueue), AttachError> {
        let host = HostQueue::create(region.clone(), &layout)?;
        let device = DeviceQueue::new(
            region,
            layout.check()?,
            layout.features(),
            layout.id(),
            layout.counts(),
        );
        Ok((host, device))
    }
}
