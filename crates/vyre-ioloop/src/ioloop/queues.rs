//! Queues of a running loop.

use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use super::IoLoop;
use crate::commands::{Command, EndLimits};
use crate::engine::queue_state::QueueState;
use crate::error::QueueError;
use crate::queue_id::QueueId;
use crate::queue_options::{QueueLimits, QueueOptions};
use crate::removed_queue::RemovedQueue;

impl IoLoop {
    /// Adds a queue while the loop runs. When it returns, devices of the queue see RUNNING. Any thread may call it. Other
    /// queues are served meanwhile.
    ///
    /// Each queue takes part of the loop's ring: see
    /// [`LoopOptions::ring_entries`](crate::LoopOptions::ring_entries). A loop that sleeps until a device rings hears the
    /// devices of the new queue, too. If the queue does not offer
    /// [`Features::DOORBELL`](vyre_ioq::Features::DOORBELL), the loop sleeps for short times only until the queue is
    /// removed.
    ///
    /// ```
    /// use vyre_ioloop::IoLoop;
    /// use vyre_ioq::{Queue, QueueLayout, Request};
    ///
    /// let io = IoLoop::builder().spawn()?;
    /// let (host, device) = Queue::anonymous(QueueLayout::with_slots(64))?;
    /// let queue = io.add_queue(host)?;
    ///
    /// let ticket = device.submit(Request::fence())?;
    /// device.wait(ticket)?.bytes()?;
    ///
    /// let removed = io.remove_queue(queue)?;
    /// assert_eq!(removed.counters.succeeded, 1);
    /// io.stop()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`QueueError`] if the loop cannot serve the queue, or has ended. Devices of the queue then see FAILED.
    pub fn add_queue(&self, queue: impl Into<QueueOptions>) -> Result<QueueId, QueueError> {
        // Relaxed: the number alone matters.
        let id = QueueId::from_raw(self.next_queue.fetch_add(1, Ordering::Relaxed));
        self.add_queue_as(id, queue.into())?;
        Ok(id)
    }

    /// Adds a queue under a number that no other queue has or had.
    pub(crate) fn add_queue_as(&self, id: QueueId, queue: QueueOptions) -> Result<(), QueueError> {
        // Here, since to allocate for thousands of slots would else delay the loop.
        let queue = Box::new(QueueState::new(id, queue));
        let answer = self.send(|reply| Command::AddQueue { id, queue, reply });
        answer.recv().map_err(|_| QueueError::Ended)?
    }

    /// Changes the limits of a queue while the loop runs. When it returns, operations start within the new limits. Any
    /// thread may call it.
    ///
    /// # Errors
    /// [`QueueError::Unknown`] if there is no such queue, and [`QueueError::Ended`] if the loop has ended.
    pub fn set_queue_limits(
        &self,
        queue: impl Into<QueueId>,
        limits: QueueLimits,
    ) -> Result<(), QueueError> {
        let id = queue.into();
        let answer = self.send(|reply| Command::SetLimits { id, limits, reply });
        answer.recv().map_err(|_| QueueError::Ended)?
    }

    /// Removes a queue, as [`remove_queue_within`](Self::remove_queue_within) does with the
    /// [`drain_timeout`](crate::LoopOptions::drain_timeout).
    ///
    /// # Errors
    /// The same as for [`remove_queue_within`](Self::remove_queue_within).
    pub fn remove_queue(&self, queue: impl Into<QueueId>) -> Result<RemovedQueue, QueueError> {
        self.remove(queue.into(), self.options.end_limits(None))
    }

    /// Removes a queue while the loop runs, and gives its memory back. Any thread may call it. Other queues are served
    /// meanwhile.
    ///
    /// It ends the queue as [`stop`](Self::stop) ends a loop. Devices see DRAINING. Requests that are claimed have
    /// `timeout` to end by themselves, and requests that are not claimed yet get ECANCELED. After the timeout, the others
    /// are cancelled and get ECANCELED, too; a timeout of zero cancels them at once. Then devices see STOPPED. The call
    /// returns after at most the timeout, the [`abort_timeout`](crate::LoopOptions::abort_timeout) and 5 seconds,
    /// whatever the kernel does.
    ///
    /// A bare queue shows no state. A request that is published there after the removal stays PUBLISHED.
    ///
    /// # Errors
    /// - [`QueueError::Unknown`] if there is no such queue, or if another thread is removing it.
    /// - [`QueueError::InFlight`] if the kernel has not returned all cancelled requests. The queue is removed even so, and
    ///   its memory is not used any more, but the kernel may still write to the buffers of these requests.
    /// - [`QueueError::Unresponsive`] if the loop's thread does not answer. It uses the memory until it does.
    /// - [`QueueError::Ended`] if the loop has ended, and [`QueueError::Held`] if the kernel held operations then. The
    ///   queue belongs to the loop until that is dropped.
    pub fn remove_queue_within(
        &self,
        queue: impl Into<QueueId>,
        timeout: Duration,
    ) -> Result<RemovedQueue, QueueError> {
        self.remove(queue.into(), self.options.end_limits(Some(timeout)))
    }

    pub(crate) fn remove(
        &self,
        id: QueueId,
        limits: EndLimits,
    ) -> Result<RemovedQueue, QueueError> {
        let answer = self.send(|reply| Command::RemoveQueue { id, limits, reply });
        let limit = self.options.longest_end(limits);
        match answer.recv_timeout(limit) {
            Ok(removed) => removed.map(|state| RemovedQueue::new(*state)),
            Err(RecvTimeoutError::Timeout) => Err(QueueError::Unresponsive { waited: limit }),
            Err(RecvTimeoutError::Disconnected) => Err(self
                .kept()
                .map_or(QueueError::Ended, |operations| QueueError::Held {
                    operations,
                })),
        }
    }
}
