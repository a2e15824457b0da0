//! The GPU's copy engine as a mover.

use std::collections::VecDeque;

use vyre_uring::Buffer;

use super::transport::{MoveError, Mover};
use super::{CudaError, Gpu, LandingBuffer};
use crate::driver::{CopyStream, Event};

/// Batches that may be under way at once. With more, moves wait to be marked together.
const BATCHES: usize = 16;

/// Moves what was read into buffers to the memory that lies behind them, by copies on one stream, with
/// an event for each batch. It never waits for a copy, nor when it is dropped: what the copies read and
/// write is kept until they have ended.
#[derive(Debug)]
pub struct CopyEngine {
    stream: CopyStream,
    idle: Vec<Event>,
    marked: VecDeque<Event>,
}

impl CopyEngine {
    /// One that moves to these buffers, for one loop.
    ///
    /// # Errors
    /// [`CudaError::Driver`] if the driver makes no stream or no event.
    pub fn new(gpu: &Gpu, landings: Vec<LandingBuffer>) -> Result<Self, CudaError> {
        let pairs = landings.into_iter().map(|it| (it.host, it.device));
        let events = (0..BATCHES).map(|_| Event::new(gpu.context()));
        Ok(Self {
            stream: CopyStream::new(gpu.context(), pairs.collect())?,
            idle: events.collect::<Result<_, _>>()?,
            marked: VecDeque::with_capacity(BATCHES),
        })
    }
}

impl Mover for CopyEngine {
    fn lands(&self, buffer: &Buffer) -> Option<u32> {
        let mut pairs = self.stream.pairs().iter();
        let place = pairs.position(|(host, _)| host.same_memory(buffer));
        place.map(|place| place as u32)
    }

    fn start(&mut self, place: u32, offset: u64, len: u32) -> Result<(), MoveError> {
        self.stream
            .copy(place as usize, offset, len)
            .map_err(|_| MoveError)
    }

    fn mark(&mut self) -> Result<bool, MoveError> {
        let Some(event) = self.idle.pop() else {
            return Ok(false);
        };
        match self.stream.record(&event) {
            Ok(()) => {
                self.marked.push_back(event);
                Ok(true)
            }
            Err(_) => {
                self.idle.push(event);
                // Copies that nothing tells the end of may still run: they are as good as unmarked, and
                // nobody hears of them before they have ended.
                match self.stream.is_done() {
                    Ok(false) => Ok(false),
                    _ => Err(MoveError),
                }
            }
        }
    }

    fn has_ended(&mut self) -> Result<bool, MoveError> {
        let Some(event) = self.marked.front() else {
            return Ok(true);
        };
        let ended = event.has_ended().map_err(|_| MoveError);
        if ended != Ok(false) {
            self.idle.extend(self.marked.pop_front());
        }
        ended
    }
}
