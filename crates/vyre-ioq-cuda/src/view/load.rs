//! A cached file to memory of the GPU, as fast as the bus.
#![expect(
    unsafe_code,
    reason = "a copy needs its source and its destination until it has ended"
)]

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use vyre_uring::vyre_mapped::{MapError, Mapping};

use super::ViewError;
use super::left::Left;
use crate::driver::{self, DeviceMemory, PagePin, Staging};
use crate::given_back::GivenBack;
use crate::gpu::Gpu;
use crate::memory::GpuMemory;

/// The largest number of threads that read. More gained nothing on 16 cores.
const MOST_THREADS: usize = 8;
/// The bytes that a thread reads at once.
const STAGED: u64 = 2 << 20;
/// The bytes that are pinned at once: first few, so that the copy engine begins early, then more, and few at the end,
/// so that it ends early. Each number is a multiple of every page size.
const FEWEST_PINNED: u64 = 16 << 20;
const MOST_PINNED: u64 = 128 << 20;
/// The places at which a look tells whether a file is in memory.
const SAMPLES: u64 = 16;

/// The way in which the bytes of a file reach memory of the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadWay {
    /// A thread pins the file's pages piece by piece, and the copy engine copies them while the next are
    /// pinned. No byte passes a processor. The pages are given back by a thread afterwards.
    Pinned,
    /// Threads read the file into pinned memory, two pieces of 2 MiB each, and the copy engine copies from
    /// there. It works for every file that can be read.
    Staging,
}

/// Options of [`load`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadOptions {
    /// The way, or `None` for the fastest one: pinned pages if the file can be mapped and seems to be in memory, and
    /// staging otherwise, also of the rest where no more pages may be pinned.
    pub way: Option<LoadWay>,
    /// The threads that read where the way is staging, or `None` for as many as there are processors, up to 8.
    pub threads: Option<usize>,
}

/// Copies a range of a file to memory of a GPU, from `at` on, and returns how, once every byte is there. It is
/// made for files in the page cache.
///
/// A thread gives pinned pages and memory back after the return, since that waits for running kernels. Until then they
/// count in [`pinned_bytes`](super::pinned_bytes): some 40 ms for 4 GiB where no kernel runs.
///
/// # Errors
/// After an error, any part of the bytes may have been copied.
/// - [`ViewError::Map`] if the range is empty.
/// - [`ViewError::TooShort`] if the memory has no room for the range.
/// - [`ViewError::Read`] if the file cannot be read, or ends before the range does.
/// - [`ViewError::Pin`] if pages cannot be pinned, as where the file becomes shorter meanwhile.
/// - Another [`ViewError`] if the chosen way is not there for the file, or if the driver refuses a call.
pub fn load(
    gpu: &Gpu,
    file: impl AsFd,
    range: Range<u64>,
    to: &GpuMemory,
    at: usize,
    options: LoadOptions,
) -> Result<LoadWay, ViewError> {
    if range.is_empty() {
        return Err(MapError::EmptyRange.into());
    }
    let wanted = range
        .end
        .saturating_sub(range.start)
        .saturating_add(at as u64);
    if wanted > to.len() as u64 {
        let len = to.len() as u64;
        return Err(ViewError::TooShort { len, wanted });
    }
    let processors = || {
        thread::available_parallelism()
            .map_or(1, usize::from)
            .min(MOST_THREADS)
    };
    let threads = options.threads.unwrap_or_else(processors).max(1);
    let job = Job {
        gpu,
        left: Left::new(range.clone()),
        range,
        to: to.shared(),
        at: at as u64,
        staged: Mutex::default(),
    };
    match options.way {
        Some(LoadWay::Staging) => job.stage(&file, threads),
        Some(LoadWay::Pinned) => job.pin(&job.map(&file)?),
        None => match job.map(&file) {
            Ok(mapping) if job.seems_cached(&mapping) => match job.pin(&mapping) {
                Err(ViewError::PinLimit { .. }) => job.stage(&file, threads),
                pinned => pinned,
            },
            _ => job.stage(&file, threads),
        },
    }
}

struct Job<'a> {
    gpu: &'a Gpu,
    range: Range<u64>,
    /// The part that no thread has taken yet.
    left: Left,
    to: &'a Arc<DeviceMemory>,
    at: u64,
    /// Memory that threads have used. It is unpinned after the last byte is there, on a thread that nobody waits for.
    staged: Mutex<GivenBack<Staging>>,
}

impl Job<'_> {
    fn map(&self, file: &impl AsFd) -> Result<Arc<Mapping>, ViewError> {
        let capabilities = self.gpu.capabilities();
        if !capabilities.pins_read_only {
            return Err(ViewError::Unsupported(capabilities.name.clone()));
        }
        Ok(Arc::new(Mapping::new(file, self.range.clone())?))
    }

    /// Returns whether pages here and there in the range are in memory.
    fn seems_cached(&self, mapping: &Mapping) -> bool {
        let len = self.range.end - self.range.start;
        (0..SAMPLES).all(|sample| {
            let at = self.range.start + len / SAMPLES * sample;
            mapping.seems_cached(at..at + 1)
        })
    }

    /// Returns the place in the memory of a byte of the file.
    fn place(&self, offset: u64) -> u64 {
        self.at + (offset - self.range.start)
    }

    /// Has threads stage what is left, this one among them.
    fn stage(&self, file: &impl AsFd, threads: usize) -> Result<LoadWay, ViewError> {
        let file = file.as_fd().try_clone_to_owned();
        let file = file.map(File::from).map_err(|error| ViewError::Read {
            offset: self.range.start,
            reason: error.to_string(),
        })?;
        // A thread without a piece would only create a stream.
        let pieces = (self.range.end - self.range.start).div_ceil(STAGED);
        let work = || self.stage_pieces(&file);
        thread::scope(|scope| {
            let others: Vec<_> = (1..pieces.min(threads as u64))
                .map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok())
                .collect();
            let own = work();
            others
                .into_iter()
                .map(|other| other.join().unwrap_or_else(|cause| resume_unwind(cause)))
                .fold(own, Result::and)
        })?;
        Ok(LoadWay::Staging)
    }

    fn stage_pieces(&self, file: &File) -> Result<(), ViewError> {
        let mut staging = Staging::new(self.to, STAGED as usize)?;
        let mut copied = Ok(());
        while copied.is_ok()
            && let Some(part) = self.left.take(STAGED, STAGED)
        {
            let len = (part.end - part.start) as usize;
            copied = staging.copy(file, part.start, len, self.place(part.start));
        }
        if copied.is_err() {
            // The others have nothing left to do.
            self.left.clear();
        }
        // Also after an error: what was started writes to memory of the caller's.
        let waited = staging.wait();
        let staged = self.staged.lock();
        let mut staged = staged.unwrap_or_else(PoisonError::into_inner);
        staged.push(staging);
        copied.and(Ok(waited?))
    }

    /// Pins what is left, and copies it. Where no more pages may be pinned, that is left.
    fn pin(&self, mapping: &Arc<Mapping>) -> Result<LoadWay, ViewError> {
        self.check_size(mapping)?;
        let stream = driver::Stream::new(self.gpu.context())?;
        let page = Mapping::page_size();
        let mut given_back = GivenBack::default();
        let mut most = FEWEST_PINNED;
        let mut copied = Ok(());
        while copied.is_ok()
            && let Some(part) = self.left.take(FEWEST_PINNED, most)
        {
            let first = part.start - part.start % page;
            let pages = first..part.end.next_multiple_of(page);
            copied = PagePin::new(self.gpu, Arc::clone(mapping), pages).and_then(|pin| {
                let (offset, len) = (part.start - first, part.end - part.start);
                // SAFETY: the stream is waited for below, before the pages and the memory are dropped.
                let copied =
                    unsafe { pin.copy(offset, len, self.to, self.place(part.start), &stream) };
                given_back.push(pin);
                Ok(copied?)
            });
            match copied {
                // It may be staged.
                Err(ViewError::PinLimit { .. }) => self.left.put_back(&part),
                Err(_) => self.left.clear(),
                Ok(()) => {}
            }
            most = (most * 2).min(MOST_PINNED);
        }
        stream.wait()?;
        copied?;
        // Past the end of the file, the rest of its last page reads as zeros.
        self.check_size(mapping)?;
        Ok(LoadWay::Pinned)
    }

    /// Fails if the file ends before the range does.
    fn check_size(&self, mapping: &Mapping) -> Result<(), ViewError> {
        let size = mapping.file_size().map_err(MapError::Query)?;
        if size < self.range.end {
            return Err(ViewError::Read {
                offset: size,
                reason: "the file ends there".to_owned(),
            });
        }
        Ok(())
    }
}
