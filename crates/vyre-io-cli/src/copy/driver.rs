//! Thread that keeps several requests in flight: it polls futures, each of which waits for one
//! outcome at a time.

use std::cell::Cell;
use std::future::{self, Future};
use std::num::NonZeroU64;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use vyre_io::{DeviceQueue, LoopState, Outcome, Request, Ticket, WaitError};

use crate::failure::Failure;

/// Time for which a driver only polls. Longer polling takes a core from the threads that serve it.
const SPIN: Duration = Duration::from_micros(5);
/// Shortest and longest sleep of a driver.
const NAP: (Duration, Duration) = (Duration::from_micros(10), Duration::from_millis(1));
/// Delay in nanoseconds that the kernel may add to a sleep: 50 µs by default.
const TIMER_SLACK: Option<NonZeroU64> = NonZeroU64::new(1_000);

/// One thread's end of the queue.
pub(super) struct Driver<'a> {
    device: &'a DeviceQueue,
    /// Set if an outcome was taken since the last pass over the futures.
    progressed: Cell<bool>,
    /// Set if a request was submitted since the last ring.
    submitted: Cell<bool>,
    /// Set once an outcome was taken, or a future ended.
    begun: Cell<bool>,
}

impl<'a> Driver<'a> {
    pub(super) const fn new(device: &'a DeviceQueue) -> Self {
        Self {
            device,
            progressed: Cell::new(false),
            submitted: Cell::new(false),
            begun: Cell::new(false),
        }
    }

    /// Submits a request and waits for its outcome, for as long as the host lives: a slow drive is
    /// no reason to give up.
    pub(super) async fn ask(&self, request: Request) -> Result<Outcome, Failure> {
        let mut ticket = Some(self.device.submit(request)?);
        self.submitted.set(true);
        future::poll_fn(|_| self.poll(&mut ticket)).await
    }

    /// Waits until another future has an outcome or has called [`begin`](Self::begin).
    pub(super) async fn begun(&self) {
        future::poll_fn(|_| match self.begun.get() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    /// Wakes the futures that wait in [`begun`](Self::begun).
    pub(super) fn begin(&self) {
        self.begun.set(true);
    }

    fn poll(&self, in_flight: &mut Option<Ticket>) -> Poll<Result<Outcome, Failure>> {
        let Some(ticket) = in_flight.take() else {
            return Poll::Pending;
        };
        // Read before the outcome: what a host stored before it went is then visible.
        let is_gone = self.device.host_state().is_some_and(LoopState::is_gone);
        match self.device.take(ticket) {
            Ok(outcome) => {
                self.progressed.set(true);
                self.begun.set(true);
                Poll::Ready(Ok(outcome))
            }
            Err(ticket) if is_gone => Poll::Ready(Err(WaitError::HostGone(ticket).into())),
            Err(ticket) => {
                *in_flight = Some(ticket);
                Poll::Pending
            }
        }
    }

    /// Polls a future to its end. Sleeps between passes in which no outcome was taken.
    pub(super) fn run<F: Future>(&self, work: F) -> F::Output {
        // Where that is refused, sleeps are longer.
        let _ = rustix::thread::set_current_timer_slack(TIMER_SLACK);
        let mut work = pin!(work);
        let mut context = Context::from_waker(Waker::noop());
        let mut idle_since: Option<Instant> = None;
        loop {
            self.progressed.set(false);
            if let Poll::Ready(done) = work.as_mut().poll(&mut context) {
                return done;
            }
            if self.submitted.take() {
                // Once for all futures.
                self.device.ring_and_wake();
            }
            if self.progressed.get() {
                idle_since = None;
                continue;
            }
            let waited = idle_since.get_or_insert_with(Instant::now).elapsed();
            if waited < SPIN {
                std::hint::spin_loop();
            } else {
                thread::sleep((waited / 4).clamp(NAP.0, NAP.1));
            }
        }
    }
}

/// Polls all futures until each has ended. Returns the first failure, if there is one.
pub(super) async fn join(
    futures: impl Iterator<Item = impl Future<Output = Result<(), Failure>>>,
) -> Result<(), Failure> {
    let mut running: Vec<_> = futures.map(Box::pin).collect();
    let mut all = Ok(());
    future::poll_fn(|context| {
        running.retain_mut(|future| match future.as_mut().poll(context) {
            Poll::Ready(done) => {
                if all.is_ok() {
                    all = done;
                }
                false
            }
            Poll::Pending => true,
        });
        match running.is_empty() {
            true => Poll::Ready(std::mem::replace(&mut all, Ok(()))),
            false => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests;
