//! The GPU's copy engine as a mover.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use vyre_uring::Buffer;

use super::buffer::LandingBuffer;
use super::mover::{MoveError, Mover};
use crate::driver::{CopyStream, Event};
use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::view::View;

/// The largest number of batches under way. Moves beyond it form the next batch together.
const BATCHES: usize = 16;

/// Moves bytes from buffers to the memory behind them by copies on one stream, with an event for each
/// batch. It never waits for a copy, not even when dropped: the memory that the copies access is kept
/// until they have ended.
#[derive(Debug)]
pub struct CopyEngine {
    // Before the stream, so that the pages are given back by its thread.
    views: Vec<View>,
    stream: CopyStream,
    idle: Vec<Event>,
    recorded: VecDeque<Event>,
}

impl CopyEngine {
    /// Creates a mover to these buffers, for one loop.
    ///
    /// # Errors
    /// [`CudaError::Driver`] if the driver creates no stream or no event.
    pub fn new(gpu: &Gpu, landings: Vec<LandingBuffer>) -> Result<Self, CudaError> {
        Self::with_views(gpu, landings, Vec::new())
    }

    /// Creates a mover to these buffers, for one loop, that moves the bytes of READs from views of their files.
    /// A READ of bytes that lie in a view of its file and land is not performed by io_uring.
    ///
    /// The outcome is one that pread(2) could have given: the view is used only while size and change time of
    /// the file are what they were when the view was made, and if the last change before that lay 20 ms
    /// back. Each such READ costs a system call, and some microseconds for the copy.
    ///
    /// The views are given back by a thread of their own, once the copies have ended.
    ///
    /// # Errors
    /// The same as for [`new`](Self::new).
    pub fn with_views(
        gpu: &Gpu,
        landings: Vec<LandingBuffer>,
        views: Vec<View>,
    ) -> Result<Self, CudaError> {
        let pairs = landings.into_iter().map(|it| (it.host, it.device));
        let pages = views.iter().map(|view| Arc::clone(view.pages()));
        let events = (0..BATCHES).map(|_| Event::new(gpu.context()));
        Ok(Self {
            stream: CopyStream::new(gpu.context(), pairs.collect(), pages.collect())?,
            views,
            idle: events.collect::<Result<_, _>>()?,
            recorded: VecDeque::with_capacity(BATCHES),
        })
    }
}

impl Mover for CopyEngine {
    fn destination(&self, buffer: &Buffer) -> Option<u32> {
        let mut pairs = self.stream.pairs().iter();
        let index = pairs.position(|(host, _)| host.same_memory(buffer));
        index.map(|index| index as u32)
    }

    fn start(&mut self, destination: u32, offset: u64, len: u32) -> Result<(), MoveError> {
        self.stream
            .copy(destination as usize, offset, len)
            .map_err(|_| MoveError)
    }

    fn view_of(&self, file: &OwnedFd) -> Option<u32> {
        let mut views = self.views.iter();
        let index = views.position(|view| view.is_of(file))?;
        Some(index as u32)
    }

    fn start_from_view(
        &mut self,
        view: u32,
        from: u64,
        destination: u32,
        offset: u64,
        len: u32,
    ) -> Result<bool, MoveError> {
        let Some(shown) = self.views.get(view as usize) else {
            return Err(MoveError);
        };
        let range = shown.range();
        let end = from.checked_add(len.into());
        let is_inside = range.start <= from && end.is_some_and(|end| end <= range.end);
        if !is_inside || !shown.is_unchanged() {
            return Ok(false);
        }
        self.stream
            .copy_pages(
                view as usize,
                from - range.start,
                destination as usize,
                offset,
                len,
            )
            .map(|()| true)
            .map_err(|_| MoveError)
    }

    fn close_batch(&mut self) -> Result<bool, MoveError> {
        let Some(event) = self.idle.pop() else {
            return Ok(false);
        };
        match self.stream.record(&event) {
            Ok(()) => {
                self.recorded.push_back(event);
                Ok(true)
            }
            Err(_) => {
                self.idle.push(event);
                // Without an event, the end of these copies is unknown. While they run they count as
                // part of the next batch, so their reads are not completed early.
                match self.stream.is_done() {
                    Ok(false) => Ok(false),
                    _ => Err(MoveError),
                }
            }
        }
    }

    fn has_ended(&mut self) -> Result<bool, MoveError> {
        let Some(event) = self.recorded.front() else {
            return Ok(true);
        };
        let ended = event.has_ended().map_err(|_| MoveError);
        if ended != Ok(false) {
            self.idle.extend(self.recorded.pop_front());
        }
        ended
    }
}
