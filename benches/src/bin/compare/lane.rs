//! The lane: one thread that keeps requests in flight, the same for every server of slots.

use std::hint;
use std::thread;
use std::time::{Duration, Instant};

use vyre_io::{Buffer, BufferError, Errno};
use vyre_io_cli::measure::block_numbers::BlockNumbers;
use vyre_io_cli::measure::cores::pin;

use crate::checker::{Checked, Checker};
use crate::error::CompareError;

/// Polls of a request before the lane offers its core to others, which matters where cores are shared.
const POLLS: u32 = 2048;
/// Completions between two readings of the clock.
const BATCH: u64 = 64;
/// Time without a completion after which the server is taken to be gone.
pub(crate) const STALLED: Duration = Duration::from_secs(20);

/// The device end of a queue. Each place has one request in flight, or none.
pub(crate) trait Device {
    /// Publishes a read of the block at `offset` of the file into `place` of the buffer.
    fn publish(&mut self, place: u32, offset: u64);
    /// Returns the outcome of a place's request, if there is one.
    fn take(&mut self, place: u32) -> Option<Result<u32, Errno>>;
}

/// Parameters of a measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    /// Number of requests in flight.
    pub(crate) depth: u32,
    /// Size of a block, in bytes.
    pub(crate) size: u32,
    /// Number of blocks in the file.
    pub(crate) blocks: u64,
    pub(crate) time: Duration,
    /// Number of reads after which a lane ends before its time.
    pub(crate) most: u64,
    /// Set to record latencies. Each request then reads the clock.
    pub(crate) latency: bool,
}

impl Work {
    /// Returns the length of a buffer that has a place for each request.
    pub(crate) fn bytes(&self) -> usize {
        self.depth as usize * self.size as usize
    }

    /// Makes such a buffer. Its pages are there before the clock starts.
    pub(crate) fn buffer(&self) -> Result<Buffer, BufferError> {
        let buffer = Buffer::anonymous(self.bytes())?;
        buffer.populate();
        Ok(buffer)
    }
}

/// Keeps requests in flight for the time of the work, on a thread of its own that is bound to `core`.
/// Returns the requests per second, and what was found.
pub(crate) fn run(
    mut device: impl Device + Send,
    work: &Work,
    buffer: &Buffer,
    core: Option<usize>,
) -> Result<(f64, Checked), CompareError> {
    let mut checker = Checker::new(work.depth, work.size, work.latency);
    let rate = thread::scope(|scope| {
        let lane = scope.spawn(|| {
            pin(core);
            drive(&mut device, work, buffer, &mut checker)
        });
        lane.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    Ok((rate, checker.finish()))
}

fn drive(
    device: &mut impl Device,
    work: &Work,
    buffer: &Buffer,
    checker: &mut Checker,
) -> Result<f64, CompareError> {
    let mut numbers = BlockNumbers::new(0, work.blocks, true);
    let mut draw = || numbers.draw() * u64::from(work.size);
    let mut offsets: Vec<u64> = (0..work.depth).map(|_| draw()).collect();
    let started = Instant::now();
    for (place, &offset) in (0..).zip(&offsets) {
        device.publish(place, offset);
    }
    let (mut done, mut place) = (0_u64, 0_u32);
    let rate = loop {
        let offset = &mut offsets[place as usize];
        wait(device, place, work.size)?;
        checker.completed(buffer, place, *offset);
        *offset = draw();
        device.publish(place, *offset);
        done += 1;
        place = if place + 1 == work.depth {
            0
        } else {
            place + 1
        };
        if done.is_multiple_of(BATCH) {
            let elapsed = started.elapsed();
            if elapsed >= work.time || done >= work.most {
                break done as f64 / elapsed.as_secs_f64();
            }
        }
    };
    // The server is still at work on the others.
    for place in 0..work.depth {
        wait(device, place, work.size)?;
    }
    Ok(rate)
}

/// Waits for the outcome of a place's request, which must be a whole block.
#[inline]
pub(crate) fn wait(device: &mut impl Device, place: u32, size: u32) -> Result<(), CompareError> {
    let mut since = None;
    loop {
        for _ in 0..POLLS {
            match device.take(place) {
                Some(Ok(count)) if count == size => return Ok(()),
                Some(outcome) => return Err(fault(outcome, size)),
                None => hint::spin_loop(),
            }
        }
        if since.get_or_insert_with(Instant::now).elapsed() > STALLED {
            return Err(CompareError::Stalled(STALLED.as_secs()));
        }
        thread::yield_now();
    }
}

#[cold]
pub(crate) fn fault(outcome: Result<u32, Errno>, expected: u32) -> CompareError {
    match outcome {
        Ok(found) => CompareError::Count { found, expected },
        Err(errno) => CompareError::Request(errno),
    }
}
