//! Checks and restores the blocks that a benchmark of writes overwrites.
//!
//! Blocks are prepared before the clock starts, when the offsets of the writes are not known. So
//! each block names its own place in the buffer: its stamps are those of sectors past the end of
//! the file, which no block of the file has. After the clock has stopped, written blocks are read
//! and checked. If the file had stamps of its own, they are then restored.

use vyre_io::{Buffer, DeviceQueue, FileHandle, Queue, QueueLayout, Request};
use vyre_io_cli::measure::stamp;

use super::loops::Loops;
use super::plan::Plan;
use super::tally::{Tally, VERIFY};
use super::target::Target;
use super::untimed::Untimed;
use crate::args::BenchArgs;
use crate::failure::Failure;

/// Number of requests in flight while blocks are checked or restored.
const DEPTH: u32 = 64;

/// Returns the offset in the stamp of the buffer's first block. It lies past the end of the file.
fn labels(target: &Target, size: u32) -> u64 {
    target.blocks * u64::from(size)
}

/// Stamps every block of a buffer with its place.
pub(super) fn prepare(buffer: &Buffer, target: &Target, size: u32) {
    if !size.is_multiple_of(stamp::SECTOR as u32) {
        return;
    }
    let first = labels(target, size);
    let mut block = vec![0; size as usize];
    for place in (0..buffer.len()).step_by(size as usize) {
        stamp::write(first + place as u64, &mut block);
        let written = buffer.write_at(place, &block);
        debug_assert!(written.is_ok(), "every place is inside the buffer");
    }
}

/// Checks blocks that the lanes wrote, and restores the file's own stamps.
pub(super) fn verify_and_restore(
    args: &BenchArgs,
    plan: &Plan,
    target: &Target,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let size = plan.block_size;
    if !size.is_multiple_of(stamp::SECTOR as u32) {
        target.written.clear();
        return Ok(());
    }
    let after = After::start(args, plan, target)?;
    let (first, places) = (labels(target, size), u64::from(plan.depth()));
    let step = target.written.count().div_ceil(VERIFY).max(1);
    let sample = target.written.blocks().step_by(step as usize);
    after.untimed().read(sample, tally, |_, block| {
        let label = stamp::offset_of(block).and_then(|label| label.checked_sub(first));
        label.is_some_and(|label| {
            label.is_multiple_of(size.into())
                && label / u64::from(size) < places
                && stamp::is_intact(first + label, block)
        })
    })?;
    if target.stamped {
        after.restore(target)?;
        let all = (0..target.blocks).step_by(target.blocks.div_ceil(VERIFY) as usize);
        after.untimed().read(all, tally, stamp::is_intact)?;
    }
    target.written.clear();
    after.loops.stop().map(drop)
}

/// Restores the file's own stamps after the raw loop has written.
pub(super) fn restore(args: &BenchArgs, plan: &Plan, target: &Target) -> Result<(), Failure> {
    if target.stamped {
        let after = After::start(args, plan, target)?;
        after.restore(target)?;
        after.loops.stop()?;
    }
    target.written.clear();
    Ok(())
}

/// Loop and queue for the work outside the measured time.
struct After {
    loops: Loops,
    device: DeviceQueue,
    buffer: Buffer,
    size: u32,
    file: FileHandle,
}

impl After {
    fn start(args: &BenchArgs, plan: &Plan, target: &Target) -> Result<Self, Failure> {
        let size = plan.block_size;
        let buffer = Buffer::anonymous(DEPTH as usize * size as usize)?;
        let (host, device) = Queue::anonymous(QueueLayout::with_slots(DEPTH))?;
        let one = plan.with_one_loop();
        let loops = Loops::start(args, &one, Some(target), &buffer, None, vec![host])?;
        let Some(file) = loops.handles().file else {
            unreachable!("a target was given")
        };
        Ok(Self {
            loops,
            device,
            buffer,
            size,
            file,
        })
    }

    fn untimed(&self) -> Untimed<'_> {
        Untimed {
            device: &self.device,
            depth: DEPTH,
            buffer: &self.buffer,
            pool: self.loops.handles().pool,
            file: self.file,
            size: self.size,
        }
    }

    fn restore(&self, target: &Target) -> Result<(), Failure> {
        let untimed = self.untimed();
        let (file, pool, size) = (untimed.file, untimed.pool, untimed.size);
        let mut bytes = vec![0; size as usize];
        let mut tally = Tally::new();
        // The first block is unstamped since the writes began, whether or not one reached it.
        let first = target.written.blocks().next().is_none_or(|block| block > 0);
        let blocks = first
            .then_some(0)
            .into_iter()
            .chain(target.written.blocks());
        untimed.pump(
            blocks,
            |offset, place| {
                stamp::write(offset, &mut bytes);
                let written = self.buffer.write_at(place as usize, &bytes);
                debug_assert!(written.is_ok(), "every place is inside the buffer");
                Request::write(file, offset, size)
                    .from_buffer(pool, place)
                    .exact()
            },
            |_, _, result| {
                if let Err(errno) = result {
                    tally.note_failure(errno);
                }
            },
        )?;
        tally.check()
    }
}
