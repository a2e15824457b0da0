use crate::attach::{AttachError, QueueLayout};
use crate::device::DeviceQueue;
use crate::host::HostQueue;
use crate::region::Region;

/// Makes both ends of a queue at once.
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
    /// A queue in memory of this process, for lanes that are its threads.
    ///
    /// # Errors
    /// [`AttachError`] if the layout is unfit or there is no memory.
    pub fn anonymous(layout: QueueLayout) -> Result<(HostQueue, DeviceQueue), AttachError> {
        layout.check()?;
        Self::in_region(Region::allocate(layout.bytes())?, layout)
    }

    /// A queue in memory that the caller brings.
    ///
    /// # Errors
    /// [`AttachError`] if the layout or the region is unfit.
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
