//! Queues of a running group.

use std::time::Duration;

use super::LoopGroup;
use crate::commands::EndLimits;
use crate::error::QueueError;
use crate::queue_id::QueueId;
use crate::queue_options::{QueueLimits, QueueOptions};
use crate::removed_queue::RemovedQueue;

impl LoopGroup {
    /// Adds a queue to the running loop that has the fewest queues: see [`IoLoop::add_queue`](crate::IoLoop::add_queue).
    /// [`loop_of`](Self::loop_of) says which loop that is.
    ///
    /// # Errors
    /// [`QueueError`] if the loop cannot serve the queue, or if no loop runs. Devices of the queue then see FAILED.
    pub fn add_queue(&self, queue: impl Into<QueueOptions>) -> Result<QueueId, QueueError> {
        self.add(None, queue.into())
    }

    /// Adds a queue to a certain loop: see [`IoLoop::add_queue`](crate::IoLoop::add_queue).
    ///
    /// # Errors
    /// The same as for [`add_queue`](Self::add_queue), and [`QueueError::NoSuchLoop`].
    pub fn add_queue_on(
        &self,
        index: usize,
        queue: impl Into<QueueOptions>,
    ) -> Result<QueueId, QueueError> {
        let loops = self.loops.len();
        if index >= loops {
            return Err(QueueError::NoSuchLoop { index, loops });
        }
        self.add(Some(index), queue.into())
    }

    fn add(&self, chosen: Option<usize>, queue: QueueOptions) -> Result<QueueId, QueueError> {
        let serves = |index: usize| self.loops[index].is_running();
        let loops = self.loops.len();
        let reserved = self
            .places
            .reserve(chosen, loops, serves, queue.host.addresses());
        let (id, index) = reserved?;
        let added = self.loops[index].add_queue_as(id, queue);
        if added.is_err() {
            self.places.remove(id);
        }
        added.map(|()| id)
    }

    /// Changes the limits of a queue: see [`IoLoop::set_queue_limits`](crate::IoLoop::set_queue_limits).
    ///
    /// # Errors
    /// The same as for [`IoLoop::set_queue_limits`](crate::IoLoop::set_queue_limits).
    pub fn set_queue_limits(
        &self,
        queue: impl Into<QueueId>,
        limits: QueueLimits,
    ) -> Result<(), QueueError> {
        let queue = queue.into();
        let index = self.places.loop_of(queue);
        let index = index.ok_or(QueueError::Unknown { queue })?;
        self.loops[index].set_queue_limits(queue, limits)
    }

    /// Removes a queue, as [`remove_queue_within`](Self::remove_queue_within) does with the
    /// [`drain_timeout`](crate::LoopOptions::drain_timeout).
    ///
    /// # Errors
    /// The same as for [`remove_queue_within`](Self::remove_queue_within).
    pub fn remove_queue(&self, queue: impl Into<QueueId>) -> Result<RemovedQueue, QueueError> {
        self.remove(queue.into(), self.limits(None))
    }

    /// Removes a queue from its loop: see [`IoLoop::remove_queue_within`](crate::IoLoop::remove_queue_within).
    ///
    /// # Errors
    /// The same as for [`IoLoop::remove_queue_within`](crate::IoLoop::remove_queue_within).
    pub fn remove_queue_within(
        &self,
        queue: impl Into<QueueId>,
        timeout: Duration,
    ) -> Result<RemovedQueue, QueueError> {
        self.remove(queue.into(), self.limits(Some(timeout)))
    }

    fn remove(&self, queue: QueueId, limits: EndLimits) -> Result<RemovedQueue, QueueError> {
        let index = self.places.loop_of(queue);
        let index = index.ok_or(QueueError::Unknown { queue })?;
        let removed = self.loops[index].remove(queue, limits);
        // Of the others, a queue that is being removed, or whose loop has ended, keeps its memory.
        if matches!(removed, Ok(_) | Err(QueueError::InFlight { .. })) {
            self.places.remove(queue);
        }
        removed
    }
}
