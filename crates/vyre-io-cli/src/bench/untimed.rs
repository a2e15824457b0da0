//! Requests outside the measured time, which check or restore blocks.

use std::collections::VecDeque;

use vyre_io::{Buffer, BufferHandle, DeviceQueue, Errno, FileHandle, Request, Ticket};

use super::tally::Tally;
use crate::failure::Failure;

/// Queue, file and buffer for requests outside the measured time.
pub(super) struct Untimed<'a> {
    pub(super) device: &'a DeviceQueue,
    /// Number of requests in flight. The queue has this many free slots, and the buffer has this
    /// many blocks.
    pub(super) depth: u32,
    pub(super) buffer: &'a Buffer,
    pub(super) pool: BufferHandle,
    pub(super) file: FileHandle,
    /// Size of a block, in bytes.
    pub(super) size: u32,
}

impl Untimed<'_> {
    /// Reads blocks, and records how many have the expected contents.
    pub(super) fn read(
        &self,
        blocks: impl Iterator<Item = u64>,
        tally: &mut Tally,
        is_right: impl Fn(u64, &[u8]) -> bool,
    ) -> Result<(), Failure> {
        let mut bytes = vec![0; self.size as usize];
        self.pump(
            blocks,
            |offset, place| {
                Request::read(self.file, offset, self.size)
                    .into_buffer(self.pool, place)
                    .exact()
            },
            |offset, place, result| match result {
                Ok(_) => {
                    let read = self.buffer.read_at(place as usize, &mut bytes);
                    debug_assert!(read.is_ok(), "every place is inside the buffer");
                    tally.note_block(offset, is_right(offset, &bytes));
                }
                Err(errno) => tally.note_failure(errno),
            },
        )
    }

    /// Keeps requests for `blocks` in flight until all have completed. Both functions get the
    /// offset of the block in the file and its place in the buffer.
    pub(super) fn pump(
        &self,
        blocks: impl Iterator<Item = u64>,
        mut request: impl FnMut(u64, u64) -> Request,
        mut done: impl FnMut(u64, u64, Result<u32, Errno>),
    ) -> Result<(), Failure> {
        let mut blocks = blocks.map(|block| block * u64::from(self.size));
        let mut free: Vec<u64> = (0..self.depth)
            .map(|n| u64::from(n) * u64::from(self.size))
            .collect();
        let mut flights: VecDeque<(Ticket, u64, u64)> = VecDeque::new();
        loop {
            while !free.is_empty()
                && let Some(offset) = blocks.next()
                && let Some(place) = free.pop()
            {
                let ticket = self.device.submit(request(offset, place))?;
                flights.push_back((ticket, offset, place));
            }
            let Some((ticket, offset, place)) = flights.pop_front() else {
                return Ok(());
            };
            done(offset, place, self.device.wait(ticket)?.bytes());
            free.push(place);
        }
    }
}
