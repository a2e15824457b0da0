//! The GPU's copy engine as a mover.

use std::collections::VecDeque;

use vyre_uring::Buffer;

use super::buffer::LandingBuffer;
use super::mover::{MoveError, Mover};
use crate::driver::{CopyStream, Event};
use crate::error::CudaError;
use crate::gpu::Gpu;

/// The largest number of batches under way. Moves beyond it form the next batch together.
const BATCHES: usize = 16;

/// Moves bytes from buffers to the memory behind them by copies on one stream, with an event for each
/// batch. It never waits for a copy, not even when dropped: the memory that the copies access is kept
/// until they have ended.
#[derive(Debug)]
pub struct CopyEngine {
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
        let pairs = landings.into_iter().map(|it| (it.host, it.device));
        let events = (0..BATCHES).map(|_| Event::new(gpu.context()));
        Ok(Self {
            stream: CopyStream::new(gpu.context(), pairs.collect())?,
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
