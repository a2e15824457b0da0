//! The device's part of a copy on a CPU: lanes, each of which moves one block at a time through the
//! queue.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use vyre_io::{Buffer, BufferHandle, DeviceQueue, FileHandle, Request};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

use super::blocks::{Block, Blocks};
use super::driver::{self, Driver};
use super::pieces::Pieces;
use super::progress::Phase;
use crate::failure::Failure;

/// Job that all lanes share.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) from: FileHandle,
    pub(super) to: FileHandle,
    pub(super) pool: BufferHandle,
    pub(super) buffer: Buffer,
    pub(super) blocks: Blocks,
    pub(super) lanes: u32,
    /// Number of bytes that the length of each write is a multiple of: 1 unless the copy bypasses
    /// the page cache.
    pub(super) write_granularity: u32,
}

/// Paths of the source and the destination, for messages.
#[derive(Clone, Copy)]
pub(super) struct Paths<'a> {
    pub(super) from: &'a Path,
    pub(super) to: &'a Path,
}

/// A lane: one block in flight, and the means to move it.
pub(super) struct Lane<'a> {
    job: &'a Job,
    driver: &'a Driver<'a>,
    phase: &'a Phase,
    pieces: &'a Pieces,
    failed: &'a AtomicBool,
    /// Offset of the lane's own block in the buffer.
    place: u64,
}

impl Job {
    /// Runs `work` in every lane, on as many threads; the first failure ends them all.
    pub(super) fn run(
        &self,
        device: &DeviceQueue,
        threads: u32,
        phase: &Phase,
        pieces: &Pieces,
        work: impl AsyncFn(&Lane<'_>) -> Result<(), Failure> + Sync,
    ) -> Result<(), Failure> {
        let failed = AtomicBool::new(false);
        let share = |thread: u32| {
            let driver = &Driver::new(device);
            let lanes = (thread..self.lanes).step_by(threads as usize);
            driver.run(driver::join(lanes.map(|number| {
                let (work, failed) = (&work, &failed);
                let lane = Lane {
                    job: self,
                    driver,
                    phase,
                    pieces,
                    failed,
                    place: u64::from(number) * self.blocks.size(),
                };
                async move {
                    if number > self.lanes / 2 {
                        // Else all lanes read at the same time, and then all write.
                        driver.begun().await;
                    }
                    let done = work(&lane).await;
                    driver.begin();
                    if done.is_err() {
                        failed.store(true, Ordering::Relaxed);
                    }
                    done
                }
            })))
        };
        thread::scope(|scope| {
            let share = &share;
            let others: Vec<_> = (1..threads)
                .map(|thread| scope.spawn(move || share(thread)))
                .collect();
            let first = share(0);
            others.into_iter().fold(first, |done, thread| {
                // A panic of a thread is this process's panic.
                done.and(
                    thread
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                )
            })
        })
    }

    /// Runs `work` in one lane.
    pub(super) fn run_alone<T>(
        &self,
        device: &DeviceQueue,
        phase: &Phase,
        work: impl AsyncFnOnce(&Lane<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let driver = Driver::new(device);
        let lane = Lane {
            job: self,
            driver: &driver,
            phase,
            pieces: &Pieces::new(self.blocks, Vec::new()),
            failed: &AtomicBool::new(false),
            place: 0,
        };
        driver.run(work(&lane))
    }
}

impl Lane<'_> {
    /// Returns the next block that no lane has taken.
    fn next(&self) -> Option<Block> {
        if self.failed.load(Ordering::Relaxed) {
            return None;
        }
        let piece = self.pieces.next()?;
        self.phase.add(piece.skipped);
        Some(piece.block)
    }

    pub(super) async fn copy(&self, paths: Paths<'_>) -> Result<(), Failure> {
        while let Some(block) = self.next() {
            self.read(self.job.from, block, paths.from).await?;
            let len = block.len.next_multiple_of(self.job.write_granularity);
            if len > block.len {
                self.clear_tail(block, len);
            }
            self.write(block.offset, len, paths.to).await?;
            self.phase.add(u64::from(block.len));
        }
        Ok(())
    }

    /// Copies up to the end of the file, which need not be known before. Returns the number of bytes and their hash.
    pub(super) async fn copy_to_the_end(&self, paths: Paths<'_>) -> Result<(u64, u128), Failure> {
        let (mut offset, mut hash) = (0, Xxh3Default::new());
        let mut bytes = vec![0; self.job.blocks.size() as usize];
        loop {
            let read = Request::read(self.job.from, offset, self.job.blocks.size() as u32)
                .into_buffer(self.job.pool, self.place);
            let found = self
                .driver
                .ask(read)
                .await?
                .bytes()
                .map_err(|errno| Failure::request("read", paths.from, errno))?;
            if found == 0 {
                return Ok((offset, hash.digest128()));
            }
            hash.update(self.bytes(found, &mut bytes));
            self.write(offset, found, paths.to).await?;
            offset += u64::from(found);
            self.phase.add(u64::from(found));
        }
    }

    pub(super) async fn verify(&self, paths: Paths<'_>) -> Result<(), Failure> {
        let mut bytes = vec![0; self.job.blocks.size() as usize];
        while let Some(block) = self.next() {
            self.read(self.job.from, block, paths.from).await?;
            let source = xxh3_128(self.bytes(block.len, &mut bytes));
            self.read(self.job.to, block, paths.to).await?;
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
    pub(super) async fn verify_copy(
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
            self.read(self.job.to, block, paths.to).await?;
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

    /// Reads a range of the source again, of which another read returned only a part.
    pub(super) async fn read_again(
        &self,
        offset: u64,
        len: u32,
        path: &Path,
    ) -> Result<(), Failure> {
        let ask = len.next_multiple_of(self.job.blocks.granularity() as u32);
        self.read(self.job.from, Block { offset, len, ask }, path)
            .await
    }

    /// Reads a block into the lane's place. Past the block's own bytes, a direct read may find
    /// nothing. After a short count, the rest is requested: only that distinguishes the end of the
    /// file from a sector that cannot be read.
    async fn read(&self, file: FileHandle, block: Block, path: &Path) -> Result<(), Failure> {
        let mut found = 0;
        loop {
            let from = found - found % self.job.blocks.granularity() as u32;
            let read = Request::read(file, block.offset + u64::from(from), block.ask - from)
                .into_buffer(self.job.pool, self.place + u64::from(from));
            let more = self
                .driver
                .ask(read)
                .await?
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

    async fn write(&self, offset: u64, len: u32, path: &Path) -> Result<(), Failure> {
        let write = Request::write(self.job.to, offset, len)
            .from_buffer(self.job.pool, self.place)
            .exact();
        self.driver
            .ask(write)
            .await?
            .bytes()
            .map(drop)
            .map_err(|errno| Failure::request("write", path, errno))
    }

    /// Zeroes the bytes that a direct write carries past the end of the file, which is trimmed
    /// later.
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
}
