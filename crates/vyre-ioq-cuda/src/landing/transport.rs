//! A transport that holds back what was read until it has been moved on.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use vyre_uring::{
    Buffer, BufferSlot, Busy, Completion, EnterError, Errno, FileSlot, FileTraits, Operation,
    PushError, RegisterError, SetupReport, Token, Transport,
};

use super::CopyEngine;

/// How long the loop sleeps at most while moves are under way: it hears of I/O, and not of them.
const NAP: Duration = Duration::from_micros(20);

/// A move that the mover cannot make. The READ that it was for ends with EIO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bytes could not be moved to the GPU: look at dmesg for what the driver says (NVRM, Xid)")]
pub struct MoveError;

/// Moves bytes on, batch by batch, and in order: a batch ends after those that were marked before it.
/// No method waits.
pub trait Mover {
    /// The place that lies behind a buffer, if what is read into that buffer is to be moved on.
    fn lands(&self, buffer: &Buffer) -> Option<u32>;

    /// Starts to move bytes of the buffer to its place.
    ///
    /// # Errors
    /// [`MoveError`]; nothing was started.
    fn start(&mut self, place: u32, offset: u64, len: u32) -> Result<(), MoveError>;

    /// Makes a batch of what was started since the last one. False if too many are under way: what was
    /// started waits, and what comes goes with it.
    ///
    /// # Errors
    /// [`MoveError`], if no batch was made. All moves since the last batch have then failed and ended:
    /// nothing reads the buffer or writes to its place any more.
    fn mark(&mut self) -> Result<bool, MoveError>;

    /// Whether the oldest batch has ended. If so, the next call is about the next.
    ///
    /// # Errors
    /// [`MoveError`], if the batch has ended without having moved all. None of its moves is in flight any
    /// more.
    fn has_ended(&mut self) -> Result<bool, MoveError>;
}

/// A transport around another, by which READs land in memory of the GPU: what was read into a buffer
/// that something [lies behind](Mover::lands) is moved there before the loop hears that it was read.
/// So the kernel finds the block in its own memory once it has the outcome.
///
/// This is the one place where CUDA is called while requests are served, and it is asked for by
/// name: [`IoLoopBuilder::spawn_with`] with [`LandingTransport::new`]. The calls are copies, events and
/// queries of events, on a stream that does not wait for others; none of them loads code or waits for a
/// kernel that runs. They cost the loop's thread some microseconds a block, which is why
/// [`Landing::for_size`](super::Landing::for_size) leaves small blocks to the kernel.
///
/// A READ counts as in flight until its move has ended, also for [`quiesce`](Transport::quiesce), which
/// waits no longer than its deadline: at the end of the loop, a READ whose move does not end is not
/// answered, since the move may still write to its block.
///
/// [`IoLoopBuilder::spawn_with`]: https://docs.rs/vyre-ioloop/latest/vyre_ioloop/struct.IoLoopBuilder.html
#[derive(Debug)]
pub struct LandingTransport<T, M = CopyEngine> {
    inner: T,
    mover: M,
    /// For each buffer slot, what lies behind its buffer.
    places: Vec<Option<u32>>,
    /// What the inner transport has, by the number that it has for it.
    flights: Vec<Flight>,
    free: Vec<u32>,
    /// Read, and being moved; the oldest first.
    moving: VecDeque<Landed>,
    /// How many of them each batch has; the oldest first.
    batches: VecDeque<u32>,
    /// How many are in no batch yet.
    unmarked: u32,
    /// To be reaped.
    ready: VecDeque<Completion>,
}

/// An operation of the inner transport.
#[derive(Clone, Copy, Debug)]
struct Flight {
    user: u64,
    /// If it is a read into a buffer that something lies behind: the slot, and where in the buffer.
    into: Option<(BufferSlot, u64)>,
}

/// A read that has ended.
#[derive(Clone, Copy, Debug)]
struct Landed {
    completion: Completion,
    slot: BufferSlot,
}

impl<T: Transport, M: Mover> LandingTransport<T, M> {
    /// Puts it around a transport whose tables are empty.
    pub fn new(inner: T, mover: M) -> Self {
        let capacity = inner.capacity();
        let empty = Flight {
            user: 0,
            into: None,
        };
        Self {
            inner,
            mover,
            places: Vec::new(),
            flights: vec![empty; capacity as usize],
            free: (0..capacity).rev().collect(),
            moving: VecDeque::with_capacity(capacity as usize),
            batches: VecDeque::with_capacity(capacity as usize),
            unmarked: 0,
            ready: VecDeque::with_capacity(capacity as usize),
        }
    }

    /// Operations that the inner transport has given back and that have not been reaped here.
    fn held(&self) -> u32 {
        (self.moving.len() + self.ready.len()) as u32
    }

    fn place(&self, slot: BufferSlot) -> Option<u32> {
        self.places.get(slot.index() as usize).copied().flatten()
    }

    /// Takes what has ended: of the moves first, then of the inner transport, whose reads it has moved.
    fn collect(&mut self) {
        self.land();
        let Self {
            inner,
            mover,
            places,
            flights,
            free,
            moving,
            ready,
            unmarked,
            ..
        } = self;
        inner.reap(|found| {
            let Some(flight) = flights.get(found.user as usize) else {
                return;
            };
            free.push(found.user as u32);
            let completion = Completion::new(flight.user, found.token, found.result);
            match (flight.into, completion.result) {
                (Some((slot, offset)), Ok(len @ 1..)) => {
                    let place = places.get(slot.index() as usize).copied().flatten();
                    let started = place.map_or(Err(MoveError), |it| mover.start(it, offset, len));
                    if started.is_ok() {
                        moving.push_back(Landed { completion, slot });
                        *unmarked += 1;
                    } else {
                        ready.push_back(failed(completion));
                    }
                }
                _ => ready.push_back(completion),
            }
        });
        self.mark();
    }

    /// Makes ready what has been moved.
    fn land(&mut self) {
        while let Some(&count) = self.batches.front() {
            let ended = self.mover.has_ended();
            if ended == Ok(false) {
                return;
            }
            self.batches.pop_front();
            let landed = self.moving.drain(..count as usize);
            self.ready.extend(landed.map(|landed| match ended {
                Ok(_) => landed.completion,
                Err(MoveError) => failed(landed.completion),
            }));
        }
    }

    /// Makes a batch of what was started.
    fn mark(&mut self) {
        if self.unmarked == 0 {
            return;
        }
        match self.mover.mark() {
            Ok(true) => self.batches.push_back(self.unmarked),
            Ok(false) => return,
            Err(MoveError) => {
                let first = self.moving.len() - self.unmarked as usize;
                let lost = self.moving.drain(first..);
                self.ready.extend(lost.map(|it| failed(it.completion)));
            }
        }
        self.unmarked = 0;
    }
}

/// As the completion of a read whose bytes did not land.
fn failed(completion: Completion) -> Completion {
    Completion::new(completion.user, completion.token, Err(Errno::IO))
}

impl<T: Transport, M: Mover> Transport for LandingTransport<T, M> {
    fn setup_report(&self) -> Option<&SetupReport> {
        self.inner.setup_report()
    }

    fn capacity(&self) -> u32 {
        self.inner.capacity()
    }

    fn in_flight(&self) -> u32 {
        self.inner.in_flight() + self.held()
    }

    fn push(&mut self, op: Operation, user: u64) -> Result<Token, PushError> {
        if self.in_flight() >= self.capacity() {
            return Err(PushError::Full);
        }
        let &number = self.free.last().ok_or(PushError::Full)?;
        let into = match op {
            Operation::Read {
                buffer,
                buffer_offset,
                ..
            } => self.place(buffer).map(|_| (buffer, buffer_offset)),
            _ => None,
        };
        let token = self.inner.push(op, number.into())?;
        self.free.pop();
        self.flights[number as usize] = Flight { user, into };
        Ok(token)
    }

    fn submit(&mut self) -> Result<u32, EnterError> {
        self.inner.submit()
    }

    fn reap<F: FnMut(Completion)>(&mut self, sink: F) -> u32 {
        self.collect();
        let count = self.ready.len() as u32;
        self.ready.drain(..).for_each(sink);
        count
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), EnterError> {
        self.land();
        self.mark();
        if !self.ready.is_empty() {
            return self.inner.submit().map(|_| ());
        }
        if self.moving.is_empty() {
            return self.inner.wait(timeout);
        }
        let nap = timeout.map_or(NAP, |timeout| timeout.min(NAP));
        if self.inner.in_flight() > 0 {
            return self.inner.wait(Some(nap));
        }
        thread::sleep(nap);
        Ok(())
    }

    fn waker(&mut self) -> Option<Waker> {
        self.inner.waker()
    }

    fn cancel(&mut self, token: Token) -> bool {
        // What is being moved ends soon by itself.
        self.inner.cancel(token)
    }

    fn set_file(
        &mut self,
        slot: FileSlot,
        file: Option<Arc<OwnedFd>>,
    ) -> Result<(), RegisterError> {
        self.inner.set_file(slot, file)
    }

    fn set_file_with(
        &mut self,
        slot: FileSlot,
        file: Arc<OwnedFd>,
        traits: FileTraits,
    ) -> Result<(), RegisterError> {
        self.inner.set_file_with(slot, file, traits)
    }

    fn set_buffer(
        &mut self,
        slot: BufferSlot,
        buffer: Option<Buffer>,
    ) -> Result<(), RegisterError> {
        let moving = self.moving.iter().filter(|landed| landed.slot == slot);
        if let in_flight @ 1.. = moving.count() as u32 {
            return Err(RegisterError::Busy { in_flight });
        }
        let place = buffer.as_ref().and_then(|buffer| self.mover.lands(buffer));
        self.inner.set_buffer(slot, buffer)?;
        let index = slot.index() as usize;
        if self.places.len() <= index {
            self.places.resize(index + 1, None);
        }
        self.places[index] = place;
        Ok(())
    }

    fn quiesce(&mut self, deadline: Duration) -> Result<(), Busy> {
        let began = Instant::now();
        let quiet = self.inner.quiesce(deadline);
        // What was read is still to be moved, and a move reads the buffer.
        self.collect();
        while !self.moving.is_empty() && began.elapsed() < deadline {
            thread::sleep(NAP);
            self.land();
            self.mark();
        }
        let kept = quiet.map_or_else(|busy| busy.in_flight, |()| 0);
        match kept + self.moving.len() as u32 {
            0 => Ok(()),
            in_flight => Err(Busy::new(in_flight)),
        }
    }
}

#[cfg(test)]
mod tests;
