//! The device's part of a copy: threads that move one block at a time through the queue.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use indicatif::ProgressBar;
use vyre_io::{Buffer, BufferHandle, DeviceQueue, FileHandle, Outcome, Request, Ticket, WaitError};
use xxhash_rust::xxh3::xxh3_128;

use crate::failure::Failure;

/// Largest block: counts of requests are 32 bits, and a last block may be rounded up.
const MAX_BLOCK: u64 = 1 << 30;

/// A file cut into equal blocks, the last of which may be short.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    len: u64,
    size: u64,
    granularity: u64,
}

/// One block of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    offset: u64,
    /// Bytes of the file.
    len: u32,
    /// Bytes to ask for: `len`, rounded up for direct I/O.
    ask: u32,
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

    fn get(&self, index: u64) -> Option<Block> {
        let offset = index.checked_mul(self.size)?;
        let len = self.len.checked_sub(offset)?.min(self.size);
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
    progress: &'a ProgressBar,
    next: &'a AtomicU64,
    failed: &'a AtomicBool,
    /// Where the lane's own block of the buffer begins.
    place: u64,
}

impl Job {
    /// Runs `work` in every lane; the first failure ends them all.
    pub(super) fn run(
        &self,
        device: &DeviceQueue,
        progress: &ProgressBar,
        work: impl Fn(&Lane<'_>) -> Result<(), Failure> + Sync,
    ) -> Result<(), Failure> {
        let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
        let lane = |number: u32| Lane {
            job: self,
            device,
            progress,
            next: &next,
            failed: &failed,
            place: u64::from(number) * self.blocks.size(),
        };
        let run = |number| {
            let done = work(&lane(number));
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
        self.job
            .blocks
            .get(self.next.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn copy(&self, paths: Paths<'_>) -> Result<(), Failure> {
        while let Some(block) = self.next() {
            self.read(self.job.from, block, paths.from)?;
            if block.ask > block.len {
                self.clear_tail(block);
            }
            let write = Request::write(self.job.to, block.offset, block.ask)
                .from(self.job.pool, self.place)
                .exact();
            self.ask(write)?
                .bytes()
                .map_err(|errno| Failure::request("write", paths.to, errno))?;
            self.progress.inc(u64::from(block.len));
        }
        Ok(())
    }

    pub(super) fn verify(&self, paths: Paths<'_>) -> Result<(), Failure> {
        let mut bytes = vec![0; self.job.blocks.size() as usize];
        while let Some(block) = self.next() {
            self.read(self.job.from, block, paths.from)?;
            let source = self.hash(block, &mut bytes);
            self.read(self.job.to, block, paths.to)?;
            if self.hash(block, &mut bytes) != source {
                return Err(Failure::Mismatch {
                    offset: block.offset,
                });
            }
            self.progress.inc(u64::from(block.len));
        }
        Ok(())
    }

    /// Reads a block into the lane's place. Past the block's own bytes, a direct read may find
    /// nothing.
    fn read(&self, file: FileHandle, block: Block, path: &Path) -> Result<(), Failure> {
        let read = Request::read(file, block.offset, block.ask).into(self.job.pool, self.place);
        let found = self
            .ask(read)?
            .bytes()
            .map_err(|errno| Failure::request("read", path, errno))?;
        if found < block.len {
            return Err(Failure::SourceChanged {
                path: path.into(),
                offset: block.offset,
                expected: block.len,
                found,
            });
        }
        Ok(())
    }

    /// Zeroes what a direct write carries past the end of the file, until it is trimmed.
    fn clear_tail(&self, block: Block) {
        let zeros = vec![0; (block.ask - block.len) as usize];
        let tail = (self.place + u64::from(block.len)) as usize;
        let cleared = self.job.buffer.write_at(tail, &zeros);
        debug_assert!(cleared.is_ok(), "a block is inside its lane's place");
    }

    fn hash(&self, block: Block, bytes: &mut [u8]) -> u128 {
        let bytes = &mut bytes[..block.len as usize];
        let read = self.job.buffer.read_at(self.place as usize, bytes);
        debug_assert!(read.is_ok(), "a block is inside its lane's place");
        xxh3_128(bytes)
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
    fn blocks_cover_a_file_exactly() {
        for (len, size, granularity) in [
            (0, 4096, 1),
            (1, 4096, 1),
            (10_000, 4096, 512),
            (8192, 4096, 4096),
        ] {
            let blocks = Blocks::new(len, size, granularity).expect("fit");
            let mut end = 0;
            for index in 0..blocks.count() {
                let block = blocks.get(index).expect("a block");
                assert_eq!(block.offset, end);
                assert!(u64::from(block.ask).is_multiple_of(granularity));
                assert!(block.ask >= block.len && u64::from(block.ask) <= blocks.size());
                end += u64::from(block.len);
            }
            assert_eq!(end, len);
            assert_eq!(blocks.get(blocks.count()), None);
        }
    }

    #[test]
    fn a_block_size_that_cannot_be_used_is_a_usage_error() {
        for (size, granularity) in [(0, 1), (4095, 512), (MAX_BLOCK + 1, 1)] {
            let refused = Blocks::new(1, size, granularity).expect_err("unfit");
            assert_eq!(refused.status(), 2, "{refused}");
        }
    }
}
