//! Alarm that ends a wait from another thread: an eventfd that the ring polls.
//!
//! No wake-up is lost. The eventfd keeps the signal until this thread reads it, and an armed poll
//! completes whenever it is there, so it does not matter whether a wait has begun. Whoever wakes the
//! ring has stored what it has to say before it writes to the eventfd; that write and the read here
//! are ordered by the kernel's lock, so the ring's thread sees what was stored once it has read the
//! signal.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::task::{Wake, Waker};

use io_uring::{opcode, squeue, types::Fd};
use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::io::{Errno, read, write};

/// Eventfd that is shared with every waker.
#[derive(Debug)]
struct Event(OwnedFd);

impl Wake for Event {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // It fails only if the counter is at its end: then the signal is there already.
        let _ = write(&self.0, &1u64.to_ne_bytes());
    }
}

/// State by which a ring can be woken.
#[derive(Debug)]
pub(super) struct Alarm {
    event: Arc<Event>,
    waker: Waker,
    /// Set if the kernel has a poll of the eventfd, or has one queued.
    armed: bool,
}

impl Alarm {
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

    pub(super) const fn is_armed(&self) -> bool {
        self.armed
    }

    /// Returns the entry that polls the eventfd. The alarm counts as armed from here on.
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
