//! Copies from host memory to the GPU, which run while the thread does other work.
#![expect(unsafe_code, reason = "the CUDA driver is a C library")]

use std::mem;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use vyre_uring::Buffer;

use super::context::Context;
use super::event::Event;
use super::memory::{DeviceMemory, is_inside, no_such_range};
use super::pages::PagePin;
use super::stream::Stream;
use crate::error::CudaError;

/// Interval between queries of copies that outlived their `CopyStream`.
const INTERVAL: Duration = Duration::from_millis(10);

/// Stream that copies from buffers to the memory that belongs to each, and keeps both until the
/// copies have ended. Dropping it does not wait: a separate thread waits for the copies that are
/// still in flight.
#[derive(Debug)]
pub(crate) struct CopyStream {
    /// `None` only while it is being dropped.
    copies: Option<Copies>,
}

#[derive(Debug)]
struct Copies {
    // First, since dropping it waits.
    stream: Stream,
    pairs: Vec<(Buffer, Arc<DeviceMemory>)>,
    pages: Vec<Arc<PagePin>>,
}

impl CopyStream {
    pub(crate) fn new(
        context: &Arc<Context>,
        pairs: Vec<(Buffer, Arc<DeviceMemory>)>,
        pages: Vec<Arc<PagePin>>,
    ) -> Result<Self, CudaError> {
        let stream = Stream::new(context)?;
        let copies = Some(Copies {
            stream,
            pairs,
            pages,
        });
        Ok(Self { copies })
    }

    fn stream(&self) -> Result<&Stream, CudaError> {
        let copies = self.copies.as_ref();
        copies.map(|it| &it.stream).ok_or_else(no_such_range)
    }

    pub(crate) fn pairs(&self) -> &[(Buffer, Arc<DeviceMemory>)] {
        self.copies.as_ref().map_or(&[], |it| &it.pairs)
    }

    /// Starts a copy of `len` bytes of pinned pages, from `from` on, to `offset` of a pair's memory.
    pub(crate) fn copy_pages(
        &self,
        pages: usize,
        from: u64,
        pair: usize,
        offset: u64,
        len: u32,
    ) -> Result<(), CudaError> {
        let copies = self.copies.as_ref().ok_or_else(no_such_range)?;
        let pages = copies.pages.get(pages).ok_or_else(no_such_range)?;
        let (_, device) = copies.pairs.get(pair).ok_or_else(no_such_range)?;
        // SAFETY: `copies` keeps the pages and the memory, and drops them once the stream has ended.
        unsafe { pages.copy(from, len.into(), device, offset, &copies.stream) }
    }

    /// Returns whether all copies have ended. They have also ended if this fails: a failed context runs nothing
    /// any more.
    pub(crate) fn is_done(&self) -> Result<bool, CudaError> {
        self.stream()?.is_done()
    }

    /// Starts a copy of `len` bytes of a pair's buffer, from `offset` on, to the same offset of its memory.
    pub(crate) fn copy(&self, pair: usize, offset: u64, len: u32) -> Result<(), CudaError> {
        let stream = self.stream()?;
        let (host, device) = self.pairs().get(pair).ok_or_else(no_such_range)?;
        if !is_inside(offset, len.into(), host.len() as u64) {
            return Err(no_such_range());
        }
        let from = host.as_ptr().wrapping_add(offset as usize);
        // SAFETY: `from` has the bytes. `copies` keeps the buffer and the memory, and drops them once the
        // stream has ended.
        unsafe { device.copy_in(from, offset, len.into(), stream) }
    }

    /// Records the event: it happens when everything started so far has ended.
    pub(crate) fn record(&self, event: &Event) -> Result<(), CudaError> {
        event.record(self.stream()?)
    }
}

impl Drop for CopyStream {
    fn drop(&mut self) {
        let Some(copies) = self.copies.take() else {
            return;
        };
        // Pages are given back by another thread in any case, since that waits for running kernels.
        if copies.pages.is_empty() && !matches!(copies.stream.is_done(), Ok(false)) {
            return;
        }
        // The owner has waited as long as it wanted to. A thread waits for the copies and frees the memory.
        // If they never end, or no thread can be started, the memory is never freed.
        let (give, take) = mpsc::channel::<Copies>();
        let reaper = thread::Builder::new().name("vyre-copies-end".to_owned());
        let spawned = reaper.spawn(move || {
            if let Ok(copies) = take.recv() {
                while matches!(copies.stream.is_done(), Ok(false)) {
                    thread::sleep(INTERVAL);
                }
            }
        });
        match spawned {
            Ok(_) => drop(give.send(copies).map_err(|unsent| mem::forget(unsent.0))),
            Err(_) => mem::forget(copies),
        }
    }
}
