//! vyre-io: one loop and one lane, through the public interface.

use std::fs::File;

use vyre_io::{
    Buffer, BufferHandle, BufferTable, DeviceQueue, Errno, FileHandle, FileOptions, FileTable,
    IoLoop, LoopCounters, LoopOptions, Queue, QueueLayout, Request, Reservation, Rights, Ticket,
    WaitPolicy,
};

use crate::checker::Checked;
use crate::error::CompareError;
use crate::lane::{self, Device, Work};
use crate::run::Bench;
use crate::target::Target;

/// Slots of a queue: as many as in a default queue of the command line.
const SLOTS: u32 = 64;

/// Way that the loop takes to the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// The ring serves every request.
    Ring,
    /// The loop copies cached blocks out of a mapping of the file.
    PageCache,
}

/// Pages of the files whose reads may be copied, when the loop starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pages {
    /// In memory and mapped.
    Mapped,
    /// The pages stay as they are: the watcher finds those in memory while the loop runs.
    Unknown,
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
    let target = &bench.target;
    let opened = target
        .reopen()
        .map_err(CompareError::file("open", target.path()))?;
    serve(bench, vec![(opened, path)], Pages::Mapped, whole, work)
}

/// Returns the source of a lane that reads only the first file.
pub(crate) fn whole(files: &[FileHandle]) -> Source {
    Source {
        files: files[..1].to_vec(),
        shift: u64::BITS - 1,
    }
}

/// Has a loop serve one lane, whose source is chosen among the files. Returns what `measure` does.
pub(crate) fn serve(
    bench: &Bench,
    files: Vec<(File, Path)>,
    pages: Pages,
    source: impl FnOnce(&[FileHandle]) -> Source,
    work: &Work,
) -> Result<(f64, Checked, f64), CompareError> {
    let buffer = work.buffer()?;
    let service = Service::start(bench, files, pages, &[(&buffer, work)])?;
    let lane = service.lane(0, source(&service.files), work)?;
    let (rate, checked) = lane::run(lane, work, &buffer, bench.lane_core())?;
    let counters = service.stop()?;
    Ok((rate, checked, copied(&counters)))
}

/// Returns the share of the operations that were copied out of the page cache.
pub(crate) fn copied(counters: &LoopCounters) -> f64 {
    counters.page_cache_reads as f64 / counters.operations.max(1) as f64
}

/// A loop, with a queue and a buffer for each lane.
pub(crate) struct Service {
    io: IoLoop,
    pub(crate) files: Vec<FileHandle>,
    lanes: Vec<(DeviceQueue, BufferHandle)>,
}

impl Service {
    pub(crate) fn start(
        bench: &Bench,
        files: Vec<(File, Path)>,
        pages: Pages,
        lanes: &[(&Buffer, &Work)],
    ) -> Result<Self, CompareError> {
        let (files, handles) = table(files, pages)?;
        let mut buffers = BufferTable::new();
        let depth: u32 = lanes.iter().map(|(_, work)| work.depth).sum();
        let options = LoopOptions::new()
            .ring_entries(depth.next_power_of_two().max(8))
            .wait_policy(WaitPolicy::Spin);
        let mut builder = IoLoop::builder().files(files);
        let mut made = Vec::new();
        for (buffer, work) in lanes {
            let pool = buffers.insert((*buffer).clone())?;
            let slots = SLOTS.max(work.depth);
            let (host, device) = Queue::anonymous(QueueLayout::with_slots(slots))?;
            builder = builder.queue(host);
            made.push((device, pool));
        }
        if let Some(core) = bench.loop_core() {
            builder = builder.pin_to(core);
        }
        let io = builder.buffers(buffers).options(options).spawn()?;
        Ok(Self {
            io,
            files: handles,
            lanes: made,
        })
    }

    /// Returns the device end of a lane's queue.
    pub(crate) fn lane(
        &self,
        nth: usize,
        source: Source,
        work: &Work,
    ) -> Result<Lane<'_>, CompareError> {
        let (device, pool) = &self.lanes[nth];
        Lane::new(device, source, *pool, work)
    }

    pub(crate) fn stop(self) -> Result<LoopCounters, CompareError> {
        let counters = self.io.counters();
        self.io.stop()?;
        Ok(counters)
    }
}

fn table(
    opened: Vec<(File, Path)>,
    pages: Pages,
) -> Result<(FileTable, Vec<FileHandle>), CompareError> {
    let (mut files, mut handles) = (FileTable::new(), Vec::new());
    for (file, path) in opened {
        let options = FileOptions::new(Rights::READ).page_cache_reads(path == Path::PageCache);
        let handle = files.insert(file, options)?;
        handles.push(handle);
        if let (Some(residency), Pages::Mapped) = (files.residency(handle), pages) {
            // Otherwise, reads go to the ring until the watcher has found the file's pages.
            let mapping = residency.mapping();
            let mapped = mapping.populate(mapping.range());
            let scanned = mapped.and_then(|()| residency.scan(mapping.range()));
            scanned.map_err(|errno| CompareError::Residency(errno.into()))?;
        }
    }
    Ok((files, handles))
}

/// The files that a lane reads as one: each has `1 << shift` bytes.
pub(crate) struct Source {
    pub(crate) files: Vec<FileHandle>,
    pub(crate) shift: u32,
}

/// The device end of one queue. A place keeps its slot.
pub(crate) struct Lane<'a> {
    device: &'a DeviceQueue,
    source: Source,
    pool: BufferHandle,
    size: u32,
    free: Vec<Option<Reservation>>,
    published: Vec<Option<Ticket>>,
}

impl<'a> Lane<'a> {
    fn new(
        device: &'a DeviceQueue,
        source: Source,
        pool: BufferHandle,
        work: &Work,
    ) -> Result<Self, CompareError> {
        let reserved = (0..work.depth).map(|_| device.reserve().map(Some));
        Ok(Self {
            device,
            source,
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
        let Source { files, shift } = &self.source;
        let file = files[(offset >> shift) as usize];
        let offset = offset & ((1 << shift) - 1);
        let read = Request::read(file, offset, self.size).into_buffer(self.pool, at);
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
