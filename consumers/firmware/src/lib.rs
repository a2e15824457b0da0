//! Firmware of a board that shares memory with its host, and reads blocks of one file from there.
#![no_std]
#![expect(unsafe_code, reason = "the queue's memory is at a fixed address")]

use core::ptr::NonNull;

use vyre_ioq::{
    AttachError, BufferHandle, DeviceQueue, Errno, FileHandle, LoopState, QueueFull, Region,
    Request, Ticket,
};

/// Bytes of a block, and of each slot's place in the host's buffer.
pub const BLOCK: u32 = 512;

/// Polls of one read before the caller is asked whether to go on.
const POLLS: u32 = 1_000_000;

/// Reason why a block is not there.
#[derive(Debug)]
pub enum ReadError {
    /// Every slot has a request; finish one first.
    Full(QueueFull),
    /// The host answered with an error.
    Failed(Errno),
    /// The host has gone.
    HostGone,
    /// No outcome yet.
    Late(Pending),
}

/// A read that the host has not answered. What it fills must be left alone until then.
#[derive(Debug)]
pub struct Pending(Ticket);

/// Position of a block in the host's buffer, and the number of its bytes that the file had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    pub at: u64,
    pub bytes: u32,
}

/// A file of the host, read block by block.
#[derive(Debug)]
pub struct RemoteFile {
    queue: DeviceQueue,
    file: FileHandle,
    buffer: BufferHandle,
}

impl RemoteFile {
    /// Attaches to the queue that the host has made in the shared window.
    ///
    /// # Errors
    /// The rule that the memory breaks: no host was here yet, most likely.
    ///
    /// # Safety
    /// The `len` bytes at `window` stay mapped for ever, and nothing else on this board uses them.
    pub unsafe fn attach(
        window: NonNull<u8>,
        len: usize,
        file: FileHandle,
        buffer: BufferHandle,
    ) -> Result<Self, AttachError> {
        // SAFETY: the caller promises what the region needs.
        let region = unsafe { Region::from_raw_parts(window, len) }?;
        let queue = DeviceQueue::attach(region)?;
        Ok(Self {
            queue,
            file,
            buffer,
        })
    }

    /// Asks for a block, and waits a while for it.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(&self, block: u32) -> Result<Arrived, ReadError> {
        let reservation = self.queue.reserve().map_err(ReadError::Full)?;
        // Each slot has its own place: no two reads fill the same bytes.
        let place = place_of(reservation.slot());
        let offset = u64::from(block) * u64::from(BLOCK);
        let read = Request::read(self.file, offset, BLOCK).into_buffer(self.buffer, place);
        self.finish(Pending(self.queue.publish(reservation, &read)))
    }

    /// Waits a while longer.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn finish(&self, Pending(mut ticket): Pending) -> Result<Arrived, ReadError> {
        let at = place_of(ticket.slot());
        for _ in 0..POLLS {
            // Before the poll: whoever sees that the host has gone sees its last outcomes too.
            let gone = self.queue.host_state().is_some_and(LoopState::is_gone);
            match self.queue.take(ticket) {
                Ok(outcome) => {
                    let bytes = outcome.bytes().map_err(ReadError::Failed)?;
                    return Ok(Arrived { at, bytes });
                }
                Err(_) if gone => return Err(ReadError::HostGone),
                Err(pending) => ticket = pending,
            }
            core::hint::spin_loop();
        }
        Err(ReadError::Late(Pending(ticket)))
    }
}

fn place_of(slot: u32) -> u64 {
    u64::from(slot) * u64::from(BLOCK)
}
