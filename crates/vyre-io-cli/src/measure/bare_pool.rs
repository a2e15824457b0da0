//! The baseline for loops without io_uring: a bare pool of threads that does the same work with no queue, no
//! handles and no checks. A lane hands it batches of as many blocks as are kept in flight, and waits for
//! each batch. The threads take the blocks one by one and call `preadv` or `pwritev`, which some
//! sandboxes allow that refuse `preadv2`.

#![expect(
    unsafe_code,
    reason = "the baseline passes memory to the kernel without the safe layer that it is compared with"
)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libc::c_long;
use rustix::thread::futex;
use vyre_io::Buffer;

use super::block_numbers::BlockNumbers;
use super::cores::pin;

/// Looks for news before a thread sleeps, where each has a core of its own: some microseconds.
const SPINS: u32 = 2_000;

/// The work of a bare pool.
pub struct BarePool {
    pub file: OwnedFd,
    /// Memory of as many blocks as there are in a batch.
    pub buffer: Buffer,
    /// Number of blocks of a batch.
    pub depth: u32,
    /// Size of a block, in bytes.
    pub block_size: u32,
    pub writes: bool,
    pub numbers: BlockNumbers,
    /// Number of threads.
    pub threads: u32,
    /// Cores of the threads, in turn, and the core of the lane. `None` if nothing is bound.
    pub cores: Option<(Vec<usize>, usize)>,
}

/// A batch, and how far it is. The lane stores `blocks` and `left` before `next`, which the threads load
/// before either.
struct Batch {
    blocks: Box<[AtomicU64]>,
    /// The next block to take. Past the end, there is nothing to do.
    next: AtomicU32,
    /// The number of blocks that are not done.
    left: AtomicU32,
    /// Counts batches: threads sleep on it.
    number: AtomicU32,
    /// The number of threads that sleep, or are about to.
    asleep: AtomicU32,
    /// Set while the lane sleeps, or is about to.
    lane_asleep: AtomicBool,
    ended: AtomicBool,
    failed: AtomicU32,
    spins: u32,
}

impl BarePool {
    /// Runs for `time`, and returns the operations per second. Calls `completed` in the lane for each
    /// operation, with its place in the buffer and its block of the file.
    ///
    /// # Errors
    /// Returns the kernel's error for an operation.
    pub fn run(self, time: Duration, completed: impl FnMut(u32, u64) + Send) -> io::Result<f64> {
        let has_cores = (self.threads as usize) < super::cores::allowed().len();
        let batch = Batch {
            blocks: (0..self.depth).map(|_| AtomicU64::new(0)).collect(),
            next: AtomicU32::new(self.depth),
            left: AtomicU32::new(0),
            number: AtomicU32::new(0),
            asleep: AtomicU32::new(0),
            lane_asleep: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            failed: AtomicU32::new(0),
            spins: if has_cores { SPINS } else { 0 },
        };
        thread::scope(|scope| {
            for nth in 0..self.threads as usize {
                let (pool, batch) = (&self, &batch);
                scope.spawn(move || {
                    let cores = pool.cores.as_ref().map(|(cores, _)| cores);
                    pin(cores.and_then(|cores| cores.get(nth % cores.len().max(1)).copied()));
                    pool.serve(batch);
                });
            }
            let lane = scope.spawn(|| {
                pin(self.cores.as_ref().map(|&(_, lane)| lane));
                let rate = self.lane(&batch, time, completed);
                batch.ended.store(true, Ordering::Relaxed);
                batch.publish();
                rate
            });
            lane.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn lane(
        &self,
        batch: &Batch,
        time: Duration,
        mut completed: impl FnMut(u32, u64),
    ) -> io::Result<f64> {
        let mut numbers = self.numbers.clone();
        let (started, mut done) = (Instant::now(), 0_u64);
        loop {
            for block in &batch.blocks {
                block.store(numbers.draw(), Ordering::Relaxed);
            }
            batch.left.store(self.depth, Ordering::Relaxed);
            // Release: pairs with the fetch_add in `serve`.
            batch.next.store(0, Ordering::Release);
            batch.publish();
            batch.await_end();
            match batch.failed.load(Ordering::Relaxed) {
                0 => {}
                errno => return Err(io::Error::from_raw_os_error(errno as i32)),
            }
            for (place, block) in (0..).zip(&batch.blocks) {
                completed(place, block.load(Ordering::Relaxed));
            }
            done += u64::from(self.depth);
            let elapsed = started.elapsed();
            if elapsed >= time {
                return Ok(done as f64 / elapsed.as_secs_f64());
            }
        }
    }

    fn serve(&self, batch: &Batch) {
        let mut seen = 0;
        while !batch.ended.load(Ordering::Relaxed) {
            // Acquire: pairs with the store in `lane`. Release: orders the end of the last batch.
            let place = batch.next.fetch_add(1, Ordering::AcqRel);
            let Some(block) = batch.blocks.get(place as usize) else {
                seen = batch.await_next(seen);
                continue;
            };
            if let Err(errno) = self.transfer(place, block.load(Ordering::Relaxed)) {
                batch.failed.store(errno as u32, Ordering::Relaxed);
            }
            // Release: pairs with the load in `await_end`, so that the lane sees the bytes. SeqCst: either
            // the lane sees that nothing is left, or this sees that it sleeps.
            let last = batch.left.fetch_sub(1, Ordering::SeqCst) == 1;
            if last && batch.lane_asleep.load(Ordering::SeqCst) {
                let _ = futex::wake(&batch.left, futex::Flags::PRIVATE, 1);
            }
        }
    }

    /// Moves one block.
    ///
    /// # Errors
    /// The errno of the kernel, or `EIO` if the block was not moved whole.
    fn transfer(&self, place: u32, block: u64) -> Result<(), i32> {
        let size = self.block_size as usize;
        let iovec = libc::iovec {
            iov_base: self
                .buffer
                .as_ptr()
                .wrapping_add(place as usize * size)
                .cast(),
            iov_len: size,
        };
        let (call, fd) = (
            if self.writes {
                libc::SYS_pwritev
            } else {
                libc::SYS_preadv
            },
            self.file.as_raw_fd(),
        );
        // Of 64 bits, the upper half of the offset is shifted out.
        let (low, high) = ((block * size as u64) as c_long, 0 as c_long);
        let count = 1 as c_long;
        // SAFETY: the kernel reads one `iovec`, which lives through the call. The place is inside the buffer, which
        // outlives the threads. One thread has taken it.
        let moved =
            unsafe { libc::syscall(call, c_long::from(fd), &raw const iovec, count, low, high) };
        match usize::try_from(moved) {
            Ok(moved) if moved == size => Ok(()),
            Ok(_) => Err(libc::EIO),
            Err(_) => Err(io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EIO)),
        }
    }
}

impl Batch {
    /// Wakes the threads for a new batch.
    fn publish(&self) {
        // SeqCst: with the one in `await_next`, either the thread sees the new number or this sees the
        // thread.
        self.number.fetch_add(1, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) > 0 {
            let _ = futex::wake(&self.number, futex::Flags::PRIVATE, i32::MAX as u32);
        }
    }

    /// Waits for another batch than the one that was seen last. Returns its number.
    fn await_next(&self, seen: u32) -> u32 {
        for _ in 0..self.spins {
            match self.number.load(Ordering::Relaxed) {
                number if number != seen => return number,
                _ => std::hint::spin_loop(),
            }
        }
        self.asleep.fetch_add(1, Ordering::SeqCst);
        if self.number.load(Ordering::SeqCst) == seen {
            let _ = futex::wait(&self.number, futex::Flags::PRIVATE, seen, None);
        }
        self.asleep.fetch_sub(1, Ordering::SeqCst);
        self.number.load(Ordering::Relaxed)
    }

    fn await_end(&self) {
        let mut spins = self.spins;
        loop {
            // SeqCst: see the fetch_sub in `serve`.
            match self.left.load(Ordering::SeqCst) {
                0 => return self.lane_asleep.store(false, Ordering::Relaxed),
                _ if spins > 0 => {
                    spins -= 1;
                    std::hint::spin_loop();
                }
                _ if !self.lane_asleep.load(Ordering::Relaxed) => {
                    self.lane_asleep.store(true, Ordering::SeqCst);
                }
                left => drop(futex::wait(&self.left, futex::Flags::PRIVATE, left, None)),
            }
        }
    }
}
