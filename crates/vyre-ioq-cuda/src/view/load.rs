//! A cached file to memory of the GPU, as fast as the bus.
#![expect(
    unsafe_code,
    reason = "a copy needs its source and its destination until it has ended"
)]

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use vyre_uring::vyre_mapped::{MapError, Mapping};

use super::ViewError;
use crate::driver::{self, DeviceMemory, PagePin, Staging};
use crate::gpu::Gpu;
use crate::memory::GpuMemory;

/// The number of threads from which staging is the faster way.
const STAGING_FROM: usize = MOST_THREADS;
/// The largest number of threads that read. More gained nothing on 16 cores.
const MOST_THREADS: usize = 8;
/// The bytes that a thread reads at once.
const STAGED: usize = 2 << 20;
/// The bytes that are pinned at once: first few, so that the copy engine begins early, then more. Each number is
/// a multiple of every page size.
const FIRST_PINNED: u64 = 16 << 20;
const MOST_PINNED: u64 = 128 << 20;

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
    /// The way, or `None` for the faster one: staging with 8 threads or more, and pinned pages with fewer,
    /// if the file can be mapped.
    pub way: Option<LoadWay>,
    /// The threads that read, or `None` for as many as there are processors, up to 8.
    pub threads: Option<usize>,
}

/// Copies a range of a file to memory of a GPU, from `at` on, and returns how, once every byte is there. It is
/// made for files in the page cache.
///
/// A thread gives pinned pages and memory back after the return, since that waits for running kernels.
///
/// # Errors
/// - [`ViewError::Map`] if the range is empty.
/// - [`ViewError::TooShort`] if the memory has no room for the range.
/// - [`ViewError::Read`] if the file cannot be read, or ends before the range does.
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
        range,
        to: to.shared(),
        at: at as u64,
    };
    let staging = || job.stage(&file, threads).map(|()| LoadWay::Staging);
    match options.way {
        Some(LoadWay::Staging) => staging(),
        Some(LoadWay::Pinned) => job.pin(&file).map(|()| LoadWay::Pinned),
        None if threads >= STAGING_FROM => staging(),
        None => match job.pin(&file) {
            Err(ViewError::Map(_) | ViewError::Unsupported(_) | ViewError::PinLimit { .. }) => {
                staging()
            }
            pinned => pinned.map(|()| LoadWay::Pinned),
        },
    }
}

struct Job<'a> {
    gpu: &'a Gpu,
    range: Range<u64>,
    to: &'a Arc<DeviceMemory>,
    at: u64,
}

impl Job<'_> {
    fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn stage(&self, file: &impl AsFd, threads: usize) -> Result<(), ViewError> {
        let file = file
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| ViewError::Read {
                offset: self.range.start,
                reason: error.to_string(),
            })?;
        let (file, next) = (File::from(file), AtomicU64::new(0));
        // They unpin their memory after the last byte is there, on a thread that nobody waits for.
        let used = Mutex::new(GivenBack::default());
        let work = || self.stage_pieces(&file, &next, &used);
        // A thread without a piece would only create a stream.
        let threads = self.len().div_ceil(STAGED as u64).min(threads as u64);
        thread::scope(|scope| {
            let others: Vec<_> = (1..threads)
                .map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok())
                .collect();
            let own = work();
            others
                .into_iter()
                .map(|other| other.join().unwrap_or_else(|cause| resume_unwind(cause)))
                .fold(own, Result::and)
        })
    }

    fn stage_pieces(
        &self,
        file: &File,
        next: &AtomicU64,
        used: &Mutex<GivenBack<Staging>>,
    ) -> Result<(), ViewError> {
        let piece = STAGED as u64;
        let mut staging = Staging::new(self.to, STAGED)?;
        let mut copy = || {
            loop {
                // Relaxed: the number guards no other memory.
                let done = next.fetch_add(piece, Relaxed);
                if done >= self.len() {
                    return Ok(staging.wait()?);
                }
                let len = piece.min(self.len() - done) as usize;
                staging.copy(file, self.range.start + done, len, self.at + done)?;
            }
        };
        let copied: Result<(), ViewError> = copy();
        if copied.is_err() {
            // Relaxed: as above. The others have nothing left to do.
            next.store(self.len(), Relaxed);
            // What was started writes to memory of the caller's.
            let _ = staging.wait();
        }
        let mut used = used.lock().unwrap_or_else(PoisonError::into_inner);
        used.0.push(staging);
        copied
    }

    fn pin(&self, file: &impl AsFd) -> Result<(), ViewError> {
        let mapping = Arc::new(Mapping::new(file, self.range.clone())?);
        let pages = mapping.page_range();
        let stream = driver::Stream::new(self.gpu.context())?;
        let mut given_back = GivenBack::default();
        let (mut first, mut most) = (pages.start, FIRST_PINNED);
        let mut copy = || {
            while first < pages.end {
                let part = first..pages.end.min(first.saturating_add(most));
                let pin = PagePin::new(self.gpu, Arc::clone(&mapping), part.clone())?;
                let from = part.start.max(self.range.start)..part.end.min(self.range.end);
                let at = self.at + (from.start - self.range.start);
                let (offset, len) = (from.start - part.start, from.end - from.start);
                // SAFETY: the stream is waited for below, before the pages and the memory are dropped.
                let copied = unsafe { pin.copy(offset, len, self.to, at, &stream) };
                given_back.0.push(pin);
                copied?;
                first = part.end;
                most = (most * 2).min(MOST_PINNED);
            }
            Ok::<_, ViewError>(())
        };
        let copied = copy();
        stream.wait()?;
        copied
    }
}

/// Pinned memory that a thread of its own gives back, since that waits for running kernels.
struct GivenBack<T: Send + 'static>(Vec<T>);

impl<T: Send> Default for GivenBack<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Send> Drop for GivenBack<T> {
    fn drop(&mut self) {
        let pinned = std::mem::take(&mut self.0);
        if pinned.is_empty() {
            return;
        }
        let thread = thread::Builder::new().name("vyre-view-end".to_owned());
        // Without a thread, it is given back here.
        let _ = thread.spawn(move || drop(pinned));
    }
}
