//! A descriptor that becomes readable when the host wakes the device.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::{Wake, Waker};

use rustix::event::{EventfdFlags, eventfd};

/// An eventfd that the host makes readable when it wakes the device: for poll(2), epoll(7), and the event loops around
/// them, in the host's process.
///
/// Do not pass the descriptor to a process that the host does not trust. It could fill the counter and make the descriptor
/// a blocking one, and the thread that drives the host end would hang in its write.
///
/// ```
/// use vyre_ioq::{Features, OutcomeEvent, Queue, QueueLayout, Request};
///
/// let layout = QueueLayout::with_slots(64).with_features(Features::WAKE);
/// let (mut host, device) = Queue::anonymous(layout)?;
/// let event = OutcomeEvent::new()?;
/// host.wake_device_by(event.waker());
/// // `host` goes to a loop, and the descriptor to `poll` or `epoll`.
///
/// device.expect_wakeups();
/// let ticket = device.submit(Request::fence())?;
/// device.arm();
/// // No outcome yet: the program waits until the descriptor is readable.
/// assert!(device.poll(&ticket).is_none() && !event.clear());
/// # host.claim_published(0..64, drop);
/// # host.complete(ticket.slot(), Ok(0))?;
/// # host.wake_device();
/// // It is: the program takes all outcomes that are there, arms, and looks once more.
/// assert!(event.clear());
/// assert!(device.take(ticket).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct OutcomeEvent(Arc<Event>);

#[derive(Debug)]
struct Event(OwnedFd);

impl OutcomeEvent {
    /// Makes an eventfd.
    ///
    /// # Errors
    /// The error of the kernel, which may have no room for another descriptor.
    pub fn new() -> io::Result<Self> {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        Ok(Self(Arc::new(Event(eventfd(0, flags)?))))
    }

    /// Returns the waker for [`HostQueue::wake_device_by`](crate::HostQueue::wake_device_by).
    pub fn waker(&self) -> Waker {
        Waker::from(self.0.clone())
    }

    /// Makes the descriptor unreadable until the next wake-up. Returns whether there was one since the last call. Call it
    /// before [`DeviceQueue::arm`](crate::DeviceQueue::arm).
    pub fn clear(&self) -> bool {
        rustix::io::read(&self.0.0, &mut [0; 8]).is_ok()
    }
}

impl AsFd for OutcomeEvent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

impl Wake for Event {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // A full counter is readable as it is.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}
