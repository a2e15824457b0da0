//! The end of an engine.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use vyre_io::{Errno, IoLoop, StopError};

use super::{Engine, Inner, Refused};
use crate::op::{NAP, Op};

impl Engine {
    /// Waits for all operations, cancels those that have not ended within the time of the settings, and ends the loop.
    /// Does nothing the second time.
    pub(crate) fn close(&self) -> Result<Result<(), StopError>, Refused> {
        Ok(self.inner()?.close(self.drain))
    }
}

impl Inner {
    fn close(&self, drain: Duration) -> Result<(), StopError> {
        let state = self.lock();
        // Relaxed: the lock orders it.
        self.is_closed.store(true, Relaxed);
        drop(state);
        let has_drained = self.drain(Instant::now() + drain);
        let waiting = std::mem::take(&mut self.lock().waiting);
        self.cancel_all(waiting);
        let io = self
            .io
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let end = match has_drained {
            true => IoLoop::stop,
            false => IoLoop::abort,
        };
        let ended = io.map_or(Ok(()), end);
        // Everything has an outcome, or never gets one.
        self.move_on(self.lock());
        ended
    }

    /// Polls until nothing is in flight or waits. Returns false if that is not so in time.
    fn drain(&self, until: Instant) -> bool {
        loop {
            self.move_on(self.lock());
            let state = self.lock();
            if state.flights.is_empty() && state.waiting.is_empty() {
                return true;
            }
            drop(state);
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(NAP);
        }
    }

    /// Ends operations that have not begun.
    pub(super) fn cancel_all(&self, ops: impl IntoIterator<Item = Op>) {
        for op in ops {
            self.end(op, Err(Errno::ECANCELED));
        }
    }
}
