//! Many requests at once, and their outcomes as they come.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec::Vec;

use super::{AsyncQueue, OutcomeFuture};
use crate::device::Outcome;
use crate::device::wait::Unanswered;
use crate::request::Request;

/// Requests and their outcomes in the order in which they come, from [`AsyncQueue::submit_all`].
///
/// As many requests are in flight as there are slots for; the others follow. All requests that a poll submits are rung for
/// once. A poll looks at every request in flight. If the batch is dropped, requests in flight are abandoned.
///
/// ```
/// use vyre_ioq::{AsyncQueue, Features, Queue, QueueLayout, Request};
/// # use std::{future::Future, pin::pin, task::{Context, Poll, Waker}};
///
/// let layout = QueueLayout::with_slots(2).with_features(Features::WAKE);
/// let (mut host, device) = Queue::anonymous(layout)?;
/// let queue = AsyncQueue::new(&mut host, device)?;
///
/// let task = async {
///     let mut batch = queue.submit_all((0..5).map(|tag| Request::fence().with_tag(tag)));
///     let mut done = 0_u32; // one bit for each request
///     while let Some((number, outcome)) = batch.next_outcome().await {
///         assert_eq!(outcome?.tag, number as u32);
///         done |= 1 << number;
///     }
///     assert_eq!(done, 0b11111);
///     Ok::<(), Box<dyn std::error::Error>>(())
/// };
/// # let (mut task, mut context) = (pin!(task), Context::from_waker(Waker::noop()));
/// # let mut result = Poll::Pending;
/// # while result.is_pending() {
/// #     result = task.as_mut().poll(&mut context);
/// #     let mut slots = Vec::new();
/// #     host.claim_published(0..2, |claim| slots.push(claim.slot));
/// #     for slot in slots { host.complete(slot, Ok(0))?; }
/// #     host.wake_device();
/// # }
/// # assert!(matches!(result, Poll::Ready(Ok(()))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "requests are submitted when the batch is polled"]
pub struct Batch {
    queue: AsyncQueue,
    /// The requests that are not submitted yet.
    rest: VecDeque<Request>,
    /// The number of the first of them.
    next: usize,
    /// The requests in flight, by number.
    in_flight: Vec<(usize, OutcomeFuture)>,
}

impl AsyncQueue {
    /// Submits requests, as many at a time as there are slots for, and returns their outcomes in the order in which they
    /// come.
    pub fn submit_all(&self, requests: impl IntoIterator<Item = Request>) -> Batch {
        Batch {
            queue: self.clone(),
            rest: requests.into_iter().collect(),
            next: 0,
            in_flight: Vec::new(),
        }
    }
}

impl Batch {
    /// Returns the number of requests without an outcome so far.
    pub fn remaining(&self) -> usize {
        self.rest.len() + self.in_flight.len()
    }

    /// Waits for the next outcome. It comes with the number of its request, counted from 0. `None` after the last one.
    pub fn next_outcome(&mut self) -> NextOutcome<'_> {
        NextOutcome(self)
    }

    /// Polls for the next outcome, as [`next_outcome`](Self::next_outcome) returns it.
    pub fn poll_outcome(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<(usize, Result<Outcome, Unanswered>)>> {
        self.submit_rest(context);
        if let Some((number, outcome)) = self.take_ready() {
            return Poll::Ready(Some((number, Ok(outcome))));
        }
        let slots = self
            .in_flight
            .iter()
            .filter_map(|(_, future)| future.slot());
        self.queue.shared.await_slots(slots, context.waker());
        let gone = self.queue.shared.host_is_gone();
        // After the state: an outcome that came before the host's end is there.
        if let Some((number, outcome)) = self.take_ready() {
            return Poll::Ready(Some((number, Ok(outcome))));
        }
        match (self.remaining(), gone) {
            (0, _) => Poll::Ready(None),
            (_, false) => Poll::Pending,
            (_, true) => Poll::Ready(self.give_up().map(|it| (it, Err(Unanswered::HostGone)))),
        }
    }

    /// Gives up a request, because the host has gone. Returns its number.
    fn give_up(&mut self) -> Option<usize> {
        if let Some((number, _)) = self.in_flight.pop() {
            return Some(number);
        }
        self.rest.pop_front()?;
        self.next += 1;
        Some(self.next - 1)
    }

    /// Takes an outcome that is there.
    fn take_ready(&mut self) -> Option<(usize, Outcome)> {
        for at in 0..self.in_flight.len() {
            if let Some(outcome) = self.in_flight[at].1.take() {
                let (number, _) = self.in_flight.swap_remove(at);
                return Some((number, outcome));
            }
        }
        None
    }

    /// Submits what there is room for.
    fn submit_rest(&mut self, context: &Context<'_>) {
        let before = self.next;
        while let Some(&request) = self.rest.front() {
            let Poll::Ready(future) = self.queue.poll_submit(request, context) else {
                break;
            };
            self.rest.pop_front();
            self.in_flight.push((self.next, future));
            self.next += 1;
        }
        if self.next > before {
            self.queue.ring();
        }
    }
}

#[cfg(feature = "stream")]
impl futures_core::Stream for Batch {
    type Item = (usize, Result<Outcome, Unanswered>);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_outcome(context)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining(), Some(self.remaining()))
    }
}

/// The next outcome of a [`Batch`], from [`Batch::next_outcome`].
#[derive(Debug)]
#[must_use = "a future does nothing unless it is polled"]
pub struct NextOutcome<'b>(&'b mut Batch);

impl Future for NextOutcome<'_> {
    type Output = Option<(usize, Result<Outcome, Unanswered>)>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_outcome(context)
    }
}
