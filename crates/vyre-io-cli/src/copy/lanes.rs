//! The device's part of a copy: threads that move one block at a time through the queue.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use vyre_io::{Buffer, BufferHandle, DeviceQueue, FileHandle, Outcome, Request, Ticket, WaitError};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

use super::pieces::Pieces;
use super::progress::Phase;
use crate::failure::Failure;

/// Largest block: counts of requests are 32 bits, and a last block may be rounded up.
const MAX_BLOCK: u64 = 1 << 30;

/// Division of a file into blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    len: u64,
    size: u64,
    granularity: u64,
}

/// One block of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) offset: u64,
    /// Bytes of the file.
    pub(super) len: u32,
    /// Bytes to ask for: `len`, rounded up for direct I/O.
    pub(super) ask: u32,
}

impl Blocks {
    pub(super) fn new(len: u64, size: u64, granularity: u64) -> Result<Self, Failure> {
        if size == 0 || size > MAX_BLOCK {
            return Err(Failure::Usage(format!(
                "--block-size must be 1 to {MAX_BLOCK} bytes"
            )));
        }
        if !size.is_multiple_of(granularity) {
            return Err(Failure::Usage(format!(
                "--block-size must be a multiple of {granularity} for direct I/O on these files"
            )));
        }
        // A small file needs no large buffer.
        let size = size.min(len.next_multiple_of(granularity).max(granularity));
        Ok(Self {
            len,
            size,
            granularity,
        })
    }

    /// Returns the blocks of a file of unknown length. They are read one after another to the end
    /// of the file.
    pub(super) fn unknown(size: u64) -> Result<Self, Failure> {
        Self::new(size, size, 1)
    }

    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    pub(super) const fn granularity(&self) -> u64 {
        self.granularity
    }

    pub(super) const fn count(&self) -> u64 {
        self.len.div_ceil(self.size)
    }

    /// Returns the block that begins at `offset`, in a range that ends at `end`.
    pub(super) fn piece(&self, offset: u64, end: u64) -> Option<Block> {
        let len = end.min(self.len).checked_sub(offset)?.min(self.size);
        (len > 0).then(|| Block {
            offset,
            len: len as u32,
            ask: len.next_multiple_of(self.granularity) as u32,
        })
    }
}

/// What all lanes work on.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) from: FileHandle,
    pub(super) to: FileHandle,
    pub(super) pool: BufferHandle,
    pub(super) buffer: Buffer,
    pub(super) blocks: Blocks,
    pub(super) lanes: u32,
    /// Number of bytes of which the length of each write is a multiple: 1 unless the copy bypasses
    /// the page cache.
    pub(super) write_granularity: u32,
}

/// For messages.
#[derive(Clone, Copy)]
pub(super) struct Paths<'a> {
    pub(super) from: &'a Path,
    pub(super) to: &'a Path,
}

/// One thread's view of the job.
pub(super) struct Lane<'a> {
    job: &'a Job,
    device: &'a DeviceQueue,
    phase: &'a Phase,
    pieces: &'a Pieces,
    failed: &'a AtomicBool,
    /// Where the lane's own block of the buffer begins.
    place: u64,
}

impl Job {
    /// Returns the first lane.
    pub(super) fn lane<'a>(
        &'a self,
        device: &'a DeviceQueue,
        phase: &'a Phase,
        pieces: &'a Pieces,
        failed: &'a AtomicBool,
    ) -> Lane<'a> {
        Lane {
            job: self,
            device,
            phase,
            pieces,
            failed,
            place: 0,
        }
    }

    /// Runs `work` in every lane; the first failure ends them all.
    pub(super) fn run(
        &self,
        device: &DeviceQueue,
        phase: &Phase,
        pieces: &Pieces,
        work: impl Fn(&Lane<'_>) -> Result<(), Failure> + Sync,
    ) -> Result<(), Failure> {
        let failed = AtomicBool::new(false);
        let run = |number: u32| {
            let lane = Lane {
                place: u64::from(number) * self.blocks.size(),
                ..self.lane(device, phase, pieces, &failed)
            };
            let done = work(&lane);
            if done.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            done
        };
        thread::scope(|scope| {
            let run = &run;
            let others: Vec<_> = (1..self.lanes)
                .map(|number| scope.spawn(move || run(number)))
                .collect();
            let first = run(0);
            others.into_iter().fold(first, |done, lane| {
                // A panic of a lane is this process's panic.
                done.and(
                    lane.join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                )
            })
        })
    }
}

impl Lane<'_> {
    /// The next block that no lane has taken.
    fn next(&self) -> Option<Block> {
        if self.failed.load(Ordering::Relaxed) {
            return None;
        }
        let piece = self.pieces.next()?;
        self.phase.add(piece.skipped);
        Some(piece.block)
    }

    pub(super) fn copy(&self, paths: Paths<'_>) -> Result<(), Failure> {
        while let Some(block) = self.next() {
            self.read(self.job.from, block, paths.from)?;
            let len = block.len.next_multiple_of(self.job.write_granularity);
            if len > block.len {
                self.clear_tail(block, len);
            }
            self.write(block.offset, len, paths.to)?;
            self.phase.add(u64::from(block.len));
        }
        Ok(())
    }

    /// Copies to the end of the file, wherever that is. Returns the number of bytes and their hash.
    pub(super) fn copy_to_the_end(&self, paths: Paths<'_>) -> Result<(u64, u128), Failure> {
        let (mut offset, mut hash) = (0, Xxh3Default::new());
        let mut bytes = vec![0; self.job.blocks.size() as usize];
        loop {
            let read = Request::read(self.job.from, offset, self.job.blocks.size() as u32)
                .into_buffer(self.job.pool, self.place);
            let found = self
                .ask(read)?
                .bytes()
                .map_err(|errno| Failure::request("read", paths.from, errno))?;
            if found == 0 {
                return Ok((offset, hash.digest128()));
            }
            hash.update(self.bytes(found, &mut bytes));
            self.write(offset, found, paths.to)?;
            offset += u64::from(found);
            self.phase.add(u64::from(found));
        }
    }

    pub(super) fn verify(&self, paths: Paths<'_>) -> Result<(), Failure> {
        let mut bytes = vec![0; self.job.blocks.size() as usize];
        while let Some(block) = self.next() {
            self.read(self.job.from, block, paths.from)?;
            let source = xxh3_128(self.bytes(block.len, &mut bytes));
            self.read(self.job.to, block, paths.to)?;
            if xxh3_128(self.bytes(block.len, &mut bytes)) != source {
                return Err(Failure::Mismatch {
                    path: paths.from.into(),
                    offset: block.offset,
                });
            }
            self.phase.add(u64::from(block.len));
        }
        Ok(())
    }

    /// Reads the copy, and compares its hash with that of the bytes that were written.
    pub(super) fn verify_copy(
        &self,
        len: u64,
        expected: u128,
        paths: Paths<'_>,
    ) -> Result<(), Failure> {
        let (mut offset, mut hash) = (0, Xxh3Default::new());
        let mut bytes = vec![0; self.job.blocks.size() as usize];
        while offset < len {
            let part = (len - offset).min(self.job.blocks.size()) as u32;
            let block = Block {
                offset,
                len: part,
                ask: part,
            };
            self.read(self.job.to, block, paths.to)?;
            hash.update(self.bytes(part, &mut bytes));
            offset += u64::from(part);
            self.phase.add(u64::from(part));
        }
        if hash.digest128() == expected {
            return Ok(());
        }
        Err(Failure::Mismatch {
            path: paths.from.into(),
            offset: 0,
        })
    }

    /// Reads bytes of the source again that another read did not return at once.
    pub(super) fn read_again(&self, offset: u64, len: u32, path: &Path) -> Result<(), Failure> {
        let ask = len.next_multiple_of(self.job.blocks.granularity() as u32);
        self.read(self.job.from, Block { offset, len, ask }, path)
    }

    /// Reads a block into the lane's place. Past the block's own bytes, a direct read may find
    /// nothing. After a short count the rest is asked for: only that tells the end of the file from
    /// a sector that cannot be read.
    fn read(&self, file: FileHandle, block: Block, path: &Path) -> Result<(), Failure> {
        let mut found = 0;
        loop {
            let from = found - found % self.job.blocks.granularity() as u32;
            let read = Request::read(file, block.offset + u64::from(from), block.ask - from)
                .into_buffer(self.job.pool, self.place + u64::from(from));
            let more = self
                .ask(read)?
                .bytes()
                .map_err(|errno| Failure::request("read", path, errno))?;
            let before = std::mem::replace(&mut found, from.saturating_add(more));
            if found >= block.len {
                return Ok(());
            }
            if found <= before {
                return Err(Failure::SourceChanged {
                    path: path.into(),
                    offset: block.offset,
                    expected: block.len,
                    found: before,
                });
            }
        }
    }

    fn write(&self, offset: u64, len: u32, path: &Path) -> Result<(), Failure> {
        let write = Request::write(self.job.to, offset, len)
            .from_buffer(self.job.pool, self.place)
            .exact();
        self.ask(write)?
            .bytes()
            .map(drop)
            .map_err(|errno| Failure::request("write", path, errno))
    }

    /// Zeroes what a direct write carries past the end of the file, until it is trimmed.
    fn clear_tail(&self, block: Block, len: u32) {
        let zeros = vec![0; (len - block.len) as usize];
        let tail = (self.place + u64::from(block.len)) as usize;
        let cleared = self.job.buffer.write_at(tail, &zeros);
        debug_assert!(cleared.is_ok(), "a block is inside its lane's place");
    }

    /// Returns the first `len` bytes of the lane's part of the buffer.
    fn bytes<'b>(&self, len: u32, bytes: &'b mut [u8]) -> &'b [u8] {
        let bytes = &mut bytes[..len as usize];
        let read = self.job.buffer.read_at(self.place as usize, bytes);
        debug_assert!(read.is_ok(), "a block is inside its lane's place");
        bytes
    }

    fn ask(&self, request: Request) -> Result<Outcome, Failure> {
        let ticket = self.device.submit(request)?;
        wait(self.device, ticket)
    }
}

/// Waits for as long as the host lives: a slow drive is no reason to give up.
pub(super) fn wait(device: &DeviceQueue, mut ticket: Ticket) -> Result<Outcome, Failure> {
    loop {
        match device.wait(ticket) {
            Ok(outcome) => return Ok(outcome),
            Err(WaitError::TimedOut {
                ticket: pending, ..
            }) => ticket = pending,
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_size_that_cannot_be_used_is_a_usage_error() {
        for (size, granularity) in [(0, 1), (4095, 512), (MAX_BLOCK + 1, 1)] {
            let refused = Blocks::new(1, size, granularity).expect_err("unfit");
            assert_eq!(refused.status(), 2, "{refused}");
        }
    }
}
