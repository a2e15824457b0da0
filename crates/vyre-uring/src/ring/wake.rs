//! The event that ends a wait from another thread: an eventfd that the ring polls.
//!
//! No wake-up is lost. The eventfd keeps the signal until this thread reads it, and an armed poll
//! completes whenever the signal is there, so it does not matter whether a wait has begun. A thread
//! that wakes the ring stores its message before it writes to the eventfd. The kernel's lock orders
//! that write and the read here, so the ring's thread sees the message once it has read the signal.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::task::{Wake, Waker};

use io_uring::{opcode, squeue, types::Fd};
use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::io::{Errno, read, write};

/// An eventfd that all wakers share.
#[derive(Debug)]
struct Event(OwnedFd);

impl Wake for Event {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Fails only if the counter is at its maximum: then the signal is there already.
        let _ = write(&self.0, &1u64.to_ne_bytes());
    }
}

/// The ring's end of the eventfd.
#[derive(Debug)]
pub(super) struct WakeEvent {
    event: Arc<Event>,
    waker: Waker,
    /// Set while a poll of the eventfd is queued or with the kernel.
    armed: bool,
}

impl WakeEvent {
    pub(super) fn new() -> Result<Self, Errno> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let event = Arc::new(Event(eventfd(0, flags)?));
        Ok(Self {
            waker: Waker::from(event.clone()),
            event,
            armed: false,
        })
    }

    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Returns another descriptor of the eventfd.
    pub(super) fn descriptor(&self) -> std::io::Result<OwnedFd> {
        self.event.0.try_clone()
    }

    pub(super) const fn is_armed(&self) -> bool {
        self.armed
    }

    /// Returns the entry that polls the eventfd, and counts the poll as armed from here on.
    pub(super) fn arm(&mut self) -> squeue::Entry {
        self.armed = true;
        let events = PollFlags::IN.bits().into();
        opcode::PollAdd::new(Fd(self.raw()), events).build()
    }

    /// Reads the signal. Must be called for each completion of the poll.
    pub(super) fn disarm(&mut self) {
        self.armed = false;
        let _ = read(&self.event.0, &mut [0; 8]);
    }

    fn raw(&self) -> RawFd {
        self.event.0.as_raw_fd()
    }
}
