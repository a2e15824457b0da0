//! A transport that completes a READ once its bytes have landed in memory of the GPU.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use vyre_uring::vyre_mapped::RecoveryError;
use vyre_uring::{
    Buffer, BufferSlot, Busy, CachedFile, Completion, EnterError, FileSlot, FileTraits, FutexWord,
    Operation, PageCacheCounters, PushError, RegisterError, SetupReport, Token, Transport,
};

use super::copy_engine::CopyEngine;
use super::mover::Mover;
use super::moves::{Moves, is_of_view};

/// The longest sleep while moves are under way: the end of a move does not wake the loop.
const NAP: Duration = Duration::from_micros(20);

/// A transport around another one that makes READs land in memory of the GPU. If a buffer has a
/// [destination](Mover::destination), the bytes that were read into it are moved there before the
/// loop learns of the completion. The kernel then finds the block in the GPU's own memory once it
/// has the outcome.
///
/// This is the only code that calls CUDA while requests are served, and it has to be requested:
/// [`IoLoopBuilder::spawn_with`] with [`LandingTransport::new`]. The calls are copies, events and
/// queries of events, on a stream that does not wait for others. None of them loads code or waits for
/// a running kernel. They cost the loop's thread some microseconds for each block, which is why
/// [`Landing::for_size`](super::Landing::for_size) leaves small blocks to the kernel.
///
/// If the mover has a [view](Mover::view_of) of the file, a READ whose bytes the view shows is not read: its
/// bytes are moved from the view. They are then in memory of the GPU alone, and the buffer keeps what it had.
///
/// A READ is in flight until its move has ended. [`quiesce`](Transport::quiesce) waits for moves, too,
/// and no longer than its deadline. At the end of the loop, a READ whose move has not ended gets no
/// outcome, since the move may still write to its block.
///
/// [`IoLoopBuilder::spawn_with`]: https://docs.rs/vyre-ioloop/latest/vyre_ioloop/struct.IoLoopBuilder.html
#[derive(Debug)]
pub struct LandingTransport<T, M = CopyEngine> {
    inner: T,
    moves: Moves<M>,
}

impl<T: Transport, M: Mover> LandingTransport<T, M> {
    /// Wraps a transport whose tables are empty.
    pub fn new(inner: T, mover: M) -> Self {
        let moves = Moves::new(mover, inner.capacity());
        Self { inner, moves }
    }

    /// Finishes the batches that have ended, then takes the completions of the inner transport and
    /// starts to move what was read.
    fn collect(&mut self) {
        self.moves.finish_batches();
        let moves = &mut self.moves;
        self.inner.reap(|completion| moves.completed(completion));
        self.moves.close_batch();
    }
}

impl<T: Transport, M: Mover> Transport for LandingTransport<T, M> {
    fn setup_report(&self) -> Option<SetupReport> {
        self.inner.setup_report()
    }

    fn capacity(&self) -> u32 {
        self.inner.capacity()
    }

    fn in_flight(&self) -> u32 {
        self.inner.in_flight() + self.moves.held()
    }

    fn push(&mut self, operation: Operation, user: u64) -> Result<Token, PushError> {
        if self.in_flight() >= self.capacity() {
            return Err(PushError::Full);
        }
        if let Some(token) = self.moves.push_from_view(operation, user) {
            return Ok(token);
        }
        let number = self.moves.next_number().ok_or(PushError::Full)?;
        let token = self.inner.push(operation, number.into())?;
        self.moves.record(operation, user);
        Ok(token)
    }

    fn submit(&mut self) -> Result<u32, EnterError> {
        self.inner.submit()
    }

    fn reap<F: FnMut(Completion)>(&mut self, sink: F) -> u32 {
        self.collect();
        let ready = self.moves.take_ready();
        let count = ready.len() as u32;
        ready.for_each(sink);
        count
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), EnterError> {
        self.moves.finish_batches();
        self.moves.close_batch();
        if self.moves.is_ready() {
            return self.inner.submit().map(|_| ());
        }
        if !self.moves.is_moving() {
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

    fn wake_fd(&mut self) -> Option<OwnedFd> {
        self.inner.wake_fd()
    }

    fn set_futexes(&mut self, words: Vec<FutexWord>) -> bool {
        self.inner.set_futexes(words)
    }

    fn wait_on(&mut self, expected: &[u32], timeout: Option<Duration>) -> Result<(), EnterError> {
        if self.moves.is_moving() || self.moves.is_ready() {
            return self.wait(timeout);
        }
        self.inner.wait_on(expected, timeout)
    }

    fn cancel(&mut self, token: Token) -> bool {
        // A move cannot be cancelled, and ends soon.
        if is_of_view(token) {
            return self.moves.holds(token);
        }
        self.inner.cancel(token)
    }

    fn set_file(
        &mut self,
        slot: FileSlot,
        file: Option<Arc<OwnedFd>>,
    ) -> Result<(), RegisterError> {
        let view = file.as_ref().and_then(|file| self.moves.view_of(file));
        self.inner.set_file(slot, file)?;
        self.moves.set_view(slot, view);
        Ok(())
    }

    fn set_file_with(
        &mut self,
        slot: FileSlot,
        file: Arc<OwnedFd>,
        traits: FileTraits,
    ) -> Result<(), RegisterError> {
        let view = self.moves.view_of(&file);
        self.inner.set_file_with(slot, file, traits)?;
        self.moves.set_view(slot, view);
        Ok(())
    }

    fn set_page_cache(
        &mut self,
        slot: FileSlot,
        cached: Arc<CachedFile>,
    ) -> Result<(), RecoveryError> {
        self.inner.set_page_cache(slot, cached)
    }

    fn page_cache_counters(&self) -> PageCacheCounters {
        self.inner.page_cache_counters()
    }

    fn set_buffer(
        &mut self,
        slot: BufferSlot,
        buffer: Option<Buffer>,
    ) -> Result<(), RegisterError> {
        if let in_flight @ 1.. = self.moves.moving_from(slot) {
            return Err(RegisterError::Busy { in_flight });
        }
        let destination = buffer
            .as_ref()
            .and_then(|buffer| self.moves.destination_of(buffer));
        self.inner.set_buffer(slot, buffer)?;
        self.moves.set_destination(slot, destination);
        Ok(())
    }

    fn quiesce(&mut self, deadline: Duration) -> Result<(), Busy> {
        let began = Instant::now();
        let quiet = self.inner.quiesce(deadline);
        // What was read is still to be moved, and a move reads the buffer.
        self.collect();
        while self.moves.is_moving() && began.elapsed() < deadline {
            thread::sleep(NAP);
            self.moves.finish_batches();
            self.moves.close_batch();
        }
        let kept = quiet.map_or_else(|busy| busy.in_flight, |()| 0);
        match kept + self.moves.moving() {
            0 => Ok(()),
            in_flight => Err(Busy::new(in_flight)),
        }
    }
}

#[cfg(test)]
mod tests;
