//! Things that a client has from its server: queues, buffers and open files.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vyre_ioq::{
    BufferHandle, DeviceQueue, FileHandle, LoopState, Outcome, Ticket, WaitError, WaitLimits,
};

use crate::memory::SharedMemory;
use crate::protocol::FileIs;
use crate::socket::Socket;

/// Time between two looks at the socket of a thread that waits.
const LOOK: Duration = Duration::from_millis(50);

/// A queue of the server, with its device end.
#[derive(Debug)]
pub struct ClientQueue {
    number: u32,
    device: DeviceQueue,
    socket: Arc<Socket>,
}

impl ClientQueue {
    pub(crate) fn new(number: u32, device: DeviceQueue, socket: &Arc<Socket>) -> Self {
        let socket = Arc::clone(socket);
        Self {
            number,
            device,
            socket,
        }
    }

    pub(crate) fn is_of(&self, socket: &Arc<Socket>) -> bool {
        Arc::ptr_eq(&self.socket, socket)
    }

    /// Returns the number of the queue on its connection.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Returns the device end: it submits requests and takes outcomes.
    pub const fn device(&self) -> &DeviceQueue {
        &self.device
    }

    /// Returns whether the server has gone: the header of the queue says so, or the socket is closed. There may still be
    /// outcomes that were stored before.
    pub fn is_host_gone(&self) -> bool {
        let ended = self.device.host_state().is_some_and(LoopState::is_gone);
        ended || self.socket.is_hung_up()
    }

    /// Waits for an outcome for at most `limit`, and gives the slot back. Ends early if the server has gone, also if it
    /// was killed.
    ///
    /// # Errors
    /// [`WaitError::HostGone`] if the server has gone without an outcome for this request, at most 50 milliseconds after
    /// it has; [`WaitError::TimedOut`] if the time is over. Both return the ticket.
    ///
    /// # Panics
    /// If the ticket comes from another queue.
    pub fn wait(&self, ticket: Ticket, limit: Duration) -> Result<Outcome, WaitError> {
        let started = Instant::now();
        let mut ticket = ticket;
        let mut host_moved = false;
        loop {
            let left = limit.saturating_sub(started.elapsed());
            let gone = self.socket.is_hung_up();
            let slice = if gone { Duration::ZERO } else { left.min(LOOK) };
            match self.device.wait_with(ticket, WaitLimits::new(slice)) {
                Err(WaitError::TimedOut { ticket, .. }) if gone => {
                    return Err(WaitError::HostGone(ticket));
                }
                Err(WaitError::TimedOut {
                    ticket: again,
                    host_moved: moved,
                    ..
                }) => {
                    host_moved |= moved;
                    ticket = again;
                }
                other => return other,
            }
            if started.elapsed() >= limit {
                return Err(WaitError::TimedOut {
                    ticket,
                    limit,
                    host_moved,
                });
            }
        }
    }
}

/// Memory that the server shares, which requests of one queue may name.
#[derive(Debug)]
pub struct SharedBuffer {
    queue: u32,
    handle: BufferHandle,
    memory: SharedMemory,
}

impl SharedBuffer {
    pub(crate) const fn new(queue: u32, handle: u32, memory: SharedMemory) -> Self {
        let handle = BufferHandle::from_raw(handle);
        Self {
            queue,
            handle,
            memory,
        }
    }

    pub(crate) const fn queue(&self) -> u32 {
        self.queue
    }

    /// Returns the handle for requests of the queue.
    pub const fn handle(&self) -> BufferHandle {
        self.handle
    }

    /// Returns the bytes.
    pub const fn memory(&self) -> &SharedMemory {
        &self.memory
    }
}

/// A handle to a byte range of a file, which requests of one queue may name.
#[derive(Clone, Copy, Debug)]
pub struct OpenFile {
    queue: u32,
    answer: FileIs,
}

impl OpenFile {
    pub(crate) const fn new(queue: u32, answer: FileIs) -> Self {
        Self { queue, answer }
    }

    pub(crate) const fn queue(&self) -> u32 {
        self.queue
    }

    /// Returns the handle for requests of the queue.
    pub const fn handle(&self) -> FileHandle {
        FileHandle::from_raw(self.answer.handle)
    }

    /// Returns what the server said of the file: its range, its rights, its length and its alignment.
    pub const fn answer(&self) -> &FileIs {
        &self.answer
    }
}
