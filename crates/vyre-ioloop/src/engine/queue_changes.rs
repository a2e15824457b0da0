//! Queues that come and go while the engine runs.
//!
//! An operation in flight names its queue by the index of the queue's place, so no queue ever moves. The place of a
//! queue that has gone holds a vacant state until another queue takes it.

use vyre_ioq::{Errno, LoopState};
use vyre_uring::Transport;

use super::Engine;
use super::abandoned::Abandoned;
use super::queue_state::{QueueState, StillHeld};
use super::request_state::Admitted;
use super::slot_id::SlotId;
use crate::error::QueueError;
use crate::new_queue::{check_end, check_memory};
use crate::queue_id::QueueId;
use crate::queue_options::QueueOptions;
use crate::removed_queue::RemovedQueue;

/// A removal that [`Engine::remove_queue`] started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "ask `Engine::take_removed` until it gives the queue back"]
pub struct Removal {
    pub(crate) queue: QueueId,
}

impl<T: Transport> Engine<T> {
    /// Adds a queue to the running engine. Its devices see RUNNING.
    ///
    /// # Errors
    /// [`QueueError`] if the engine cannot serve it. Its devices then see FAILED.
    pub fn add_queue(&mut self, queue: impl Into<QueueOptions>) -> Result<QueueId, QueueError> {
        let id = self.next_queue;
        self.add_state(id, QueueState::new(id, queue.into()))?;
        Ok(id)
    }

    /// Adds a queue whose state was made elsewhere: the memory for thousands of slots takes time.
    #[cold]
    pub(crate) fn add_state(
        &mut self,
        id: QueueId,
        mut queue: QueueState,
    ) -> Result<(), QueueError> {
        if self.draining {
            return Err(QueueError::Ended);
        }
        check_end(&queue.host)?;
        let served = || self.state.queues.iter().filter(|it| !it.is_vacant());
        let memory = served().map(|it| (it.id, it.host.addresses()));
        check_memory(&queue.host.addresses(), memory)?;
        let most = (self.transport.capacity() / 2).max(1);
        if served().count() + self.state.abandoned.len() >= most as usize {
            return Err(QueueError::Full { most });
        }
        if let Some(limiter) = &mut queue.limiter {
            limiter.begin(self.clock.now());
        }
        self.next_queue = self.next_queue.max(QueueId::from_raw(id.raw() + 1));
        queue.host.set_state(LoopState::Running);
        self.shared.add_queue(id, queue.shared.clone());
        let slots = queue.requests.len();
        let queues = &mut self.state.queues;
        let place = queues.iter().position(QueueState::is_vacant);
        let place = place.unwrap_or_else(|| {
            queues.push(QueueState::vacant());
            queues.len() - 1
        });
        queues[place] = queue;
        self.state.deadlines.set_slots(place, slots as u32);
        self.state.unconfirmed.reserve(slots);
        self.queues_changed();
        Ok(())
    }

    /// Starts to remove a queue. Requests that are claimed go on. Requests that are published from now on get
    /// ECANCELED, and devices see DRAINING. Step the engine until [`take_removed`](Self::take_removed) gives the queue
    /// back.
    ///
    /// # Errors
    /// [`QueueError::Unknown`] if there is no such queue, or if it is being removed.
    pub fn remove_queue(&mut self, queue: impl Into<QueueId>) -> Result<Removal, QueueError> {
        let queue = queue.into();
        let unknown = QueueError::Unknown { queue };
        let place = self.state.place_of(queue).ok_or(unknown)?;
        let state = &mut self.state.queues[place];
        if state.removing {
            return Err(QueueError::Unknown { queue });
        }
        state.removing = true;
        state.draining = true;
        state.host.set_state(LoopState::Draining);
        Ok(Removal { queue })
    }

    /// Returns the number of claimed requests without an outcome of a queue, or `None` if there is no such queue.
    pub fn requests_of(&self, queue: impl Into<QueueId>) -> Option<u32> {
        let place = self.state.place_of(queue.into())?;
        Some(self.state.queues[place].host.owed())
    }

    /// Cancels everything in flight on a queue that is being removed. Its requests end with ECANCELED, at once or when
    /// the kernel releases their buffers. The next [`step`](Self::step) sends the cancellations.
    pub fn cancel_removed(&mut self, removal: Removal) {
        let Some(place) = self.state.place_of(removal.queue) else {
            return;
        };
        // Not only when those are due that were asked for before.
        self.ask_again = 0;
        self.state.queues[place].cancels = true;
        let queue = place as u32;
        for slot in 0..self.state.queues[place].requests.len() as u32 {
            let request = &self.state.queues[place].requests[slot as usize];
            if request.cancelled.is_none() && request.admitted != Admitted::None {
                self.cancel(SlotId { queue, slot }, Errno::ECANCELED);
            }
        }
        self.state.publish_outcomes(place);
        self.reclaim();
    }

    /// Gives a removed queue back, if no claimed request of it is without an outcome. What is published and not claimed
    /// gets ECANCELED, and devices see STOPPED.
    pub fn take_removed(&mut self, removal: Removal) -> Option<RemovedQueue> {
        self.take_state(removal).map(RemovedQueue::new)
    }

    pub(crate) fn take_state(&mut self, removal: Removal) -> Option<QueueState> {
        let place = self.state.place_of(removal.queue)?;
        if self.state.queues[place].host.owed() > 0 {
            return None;
        }
        Some(self.vacate(place, LoopState::Stopped))
    }

    /// Ends a removal although the kernel holds operations of the queue, and drops the host end. The requests of these
    /// operations, and the fences that wait for them, never get an outcome, because the kernel may still write to their
    /// buffers. All other requests get one, and devices see FAILED. The files and buffers of these operations stay in
    /// use until the kernel returns them. Returns their number.
    pub fn abandon_removed(&mut self, removal: Removal) -> Option<u32> {
        self.cancel_removed(removal);
        let place = self.state.place_of(removal.queue)?;
        let slots = self.state.queues[place].requests.len() as u32;
        let queue = place as u32;
        for slot in 0..slots {
            self.state.forsake_flush(SlotId { queue, slot });
            self.state.stop_cancelling(SlotId { queue, slot });
        }
        let state = &mut self.state.queues[place];
        let held = state.requests.iter().filter(|it| it.token.is_some());
        let requests: Vec<_> = held.copied().collect();
        state.complete_rest(Errno::ECANCELED, StillHeld::Named);
        let share = state.share;
        let operations = requests.len() as u32;
        let end = match operations {
            0 => LoopState::Stopped,
            _ => {
                self.state.abandoned.push(Abandoned { share, requests });
                LoopState::Failed
            }
        };
        drop(self.vacate(place, end));
        Some(operations)
    }

    /// Takes a queue, to which nothing in flight belongs any more, out of its place. Its devices see the given state.
    fn vacate(&mut self, place: usize, end: LoopState) -> QueueState {
        self.state.resume(place);
        // What was published too late to be served.
        self.sweep_queue(place);
        self.state.publish_outcomes(place);
        self.state.deadlines.set_slots(place, 0);
        self.state
            .unconfirmed
            .retain(|id| id.queue as usize != place);
        let mut queue = std::mem::replace(&mut self.state.queues[place], QueueState::vacant());
        self.shared.remove_queue(queue.id);
        self.queues_changed();
        queue.host.set_state(end);
        queue
    }

    /// Divides the transport anew, and listens to the doorbells of the queues that there are now.
    fn queues_changed(&mut self) {
        self.state.divide(self.transport.capacity());
        if let Some(means) = self.means {
            let _ = self.listen(means);
        }
    }
}
