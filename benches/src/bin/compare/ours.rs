//! vyre-io: one loop and one lane, through the public interface.

use std::fmt;

use vyre_io::{
    BufferHandle, BufferTable, DeviceQueue, Errno, FileHandle, FileTable, IoLoop, LoopOptions,
    Queue, QueueLayout, Request, Reservation, Rights, Ticket, WaitPolicy,
};

use crate::checker::Checked;
use crate::error::CompareError;
use crate::lane::{self, Device, Work};
use crate::run::Bench;

/// Slots of the queue: as many as in a default queue of the command line.
const SLOTS: u32 = 64;

/// Way that the loop takes to the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// The ring serves every request.
    Ring,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ring => "ring",
        })
    }
}

pub(crate) fn measure(
    bench: &Bench,
    path: Path,
    work: &Work,
) -> Result<(f64, Checked), CompareError> {
    let buffer = work.buffer()?;
    let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
    let file = files.insert(
        bench
            .target
            .reopen()
            .map_err(CompareError::file("open", bench.target.path()))?,
        Rights::READ,
    )?;
    match path {
        Path::Ring => {}
    }
    let pool = buffers.insert(buffer.clone())?;
    let slots = SLOTS.max(work.depth);
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(slots))?;
    let options = LoopOptions::new()
        .ring_entries(work.depth.next_power_of_two().max(8))
        .wait_policy(WaitPolicy::Spin);
    let builder = IoLoop::builder().files(files).buffers(buffers).queue(host);
    let builder = match bench.loop_core() {
        Some(core) => builder.pin_to(core),
        None => builder,
    };
    let io = builder.options(options).spawn()?;
    let lane = Lane::new(&device, file, pool, work)?;
    let measured = lane::run(lane, work, &buffer, bench.lane_core())?;
    io.stop()?;
    Ok(measured)
}

/// The device end of one queue. A place keeps its slot.
struct Lane<'a> {
    device: &'a DeviceQueue,
    file: FileHandle,
    pool: BufferHandle,
    size: u32,
    free: Vec<Option<Reservation>>,
    published: Vec<Option<Ticket>>,
}

impl<'a> Lane<'a> {
    fn new(
        device: &'a DeviceQueue,
        file: FileHandle,
        pool: BufferHandle,
        work: &Work,
    ) -> Result<Self, CompareError> {
        let reserved = (0..work.depth).map(|_| device.reserve().map(Some));
        Ok(Self {
            device,
            file,
            pool,
            size: work.size,
            free: reserved.collect::<Result<_, _>>()?,
            published: (0..work.depth).map(|_| None).collect(),
        })
    }
}

impl Device for Lane<'_> {
    #[inline]
    fn publish(&mut self, place: u32, offset: u64) {
        let at = u64::from(place) * u64::from(self.size);
        let read = Request::read(self.file, offset, self.size).into_buffer(self.pool, at);
        let place = place as usize;
        if let Some(slot) = self.free[place].take() {
            self.published[place] = Some(self.device.publish(slot, &read));
        }
    }

    #[inline]
    fn take(&mut self, place: u32) -> Option<Result<u32, Errno>> {
        let place = place as usize;
        match self.device.take_and_keep(self.published[place].take()?) {
            Ok((outcome, slot)) => {
                self.free[place] = Some(slot);
                Some(outcome.bytes())
            }
            Err(ticket) => {
                self.published[place] = Some(ticket);
                None
            }
        }
    }
}
