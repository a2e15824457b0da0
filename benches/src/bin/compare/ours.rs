//! vyre-io: one loop and one lane, through the public interface.

use vyre_io::{
    BufferHandle, BufferTable, DeviceQueue, Errno, FileHandle, FileOptions, FileTable, IoLoop,
    LoopOptions, Queue, QueueLayout, Request, Reservation, Rights, Ticket, WaitPolicy,
};

use crate::checker::Checked;
use crate::error::CompareError;
use crate::lane::{self, Device, Work};
use crate::run::Bench;
use crate::target::Target;

/// Slots of the queue: as many as in a default queue of the command line.
const SLOTS: u32 = 64;

/// Way that the loop takes to the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// The ring serves every request.
    Ring,
    /// The loop copies cached blocks out of a mapping of the file.
    PageCache,
}

/// Returns why the file cannot be read out of the page cache, if it cannot.
pub(crate) fn refusal(target: &Target) -> Result<Option<String>, CompareError> {
    let opened = target
        .reopen()
        .map_err(CompareError::file("open", target.path()))?;
    let options = FileOptions::new(Rights::READ).page_cache_reads(true);
    let inserted = FileTable::new().insert(opened, options);
    Ok(inserted.err().map(|error| error.to_string()))
}

/// Returns the reads per second, what was checked, and the share of the reads that were copied out of the
/// page cache.
pub(crate) fn measure(
    bench: &Bench,
    path: Path,
    work: &Work,
) -> Result<(f64, Checked, f64), CompareError> {
    let buffer = work.buffer()?;
    let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
    let target = &bench.target;
    let opened = target
        .reopen()
        .map_err(CompareError::file("open", target.path()))?;
    let options = FileOptions::new(Rights::READ).page_cache_reads(path == Path::PageCache);
    let file = files.insert(opened, options)?;
    if let Some(residency) = files.residency(file) {
        // Otherwise, reads go to the ring until the watcher has found the file's pages.
        let scanned = residency.scan(0..target.len);
        scanned.map_err(|errno| CompareError::Residency(errno.into()))?;
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
    let (rate, checked) = lane::run(lane, work, &buffer, bench.lane_core())?;
    let counters = io.counters();
    io.stop()?;
    let copied = counters.page_cache_reads as f64;
    Ok((rate, checked, copied / counters.operations.max(1) as f64))
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
