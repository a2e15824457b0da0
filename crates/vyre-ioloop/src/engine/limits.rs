//! The limits of queues: backlogs that are held back for them.

use vyre_uring::Transport;

use super::Engine;
use super::engine_state::EngineState;
use super::limiter::{Hold, Limiter};
use super::slot_lists::SlotList;
use crate::error::QueueError;
use crate::queue_id::QueueId;
use crate::queue_options::QueueLimits;

impl<T: Transport> Engine<T> {
    /// Changes the limits of a queue. They hold for the operations that start from now on; what is in flight counts
    /// against [`operations_in_flight`](QueueLimits::operations_in_flight).
    ///
    /// # Errors
    /// [`QueueError::Unknown`] if there is no such queue.
    pub fn set_limits(
        &mut self,
        queue: impl Into<QueueId>,
        limits: QueueLimits,
    ) -> Result<(), QueueError> {
        let queue = queue.into();
        let place = self.state.place_of(queue);
        let place = place.ok_or(QueueError::Unknown { queue })?;
        self.state.resume(place);
        let now = self.clock.now();
        let state = &mut self.state.queues[place];
        match &mut state.limiter {
            Some(limiter) => limiter.set_limits(limits, now),
            none => {
                let slots = state.requests.len() as u32;
                *none = Limiter::of(limits, slots, now);
            }
        }
        Ok(())
    }
}

impl EngineState {
    /// Takes the backlog of a queue out of the service until its limits allow more.
    #[cold]
    pub(super) fn hold_back(&mut self, queue: usize, hold: Hold) {
        let queue = &mut self.queues[queue];
        let Some(limiter) = &mut queue.limiter else {
            return;
        };
        debug_assert_eq!(limiter.hold(), None, "held back twice");
        limiter.set_hold(Some(hold));
        self.held += 1;
        self.backlogged -= queue.lists.len(SlotList::Backlog);
    }

    /// Serves the backlog of a queue again, if it was held back.
    pub(super) fn resume(&mut self, queue: usize) {
        let queue = &mut self.queues[queue];
        if let Some(limiter) = &mut queue.limiter
            && limiter.hold().is_some()
        {
            limiter.set_hold(None);
            self.held -= 1;
            self.backlogged += queue.lists.len(SlotList::Backlog);
        }
    }

    /// Serves the backlogs again whose time has come.
    #[cold]
    pub(super) fn resume_due(&mut self, now: u64) {
        for queue in 0..self.queues.len() {
            if self.held_until(queue).is_some_and(|time| time <= now) {
                self.resume(queue);
            }
        }
    }

    /// Returns when the first backlog that is held back for a time goes on.
    pub(super) fn next_resume(&self) -> Option<u64> {
        let queues = 0..self.queues.len();
        queues.filter_map(|queue| self.held_until(queue)).min()
    }

    fn held_until(&self, queue: usize) -> Option<u64> {
        match self.queues[queue].limiter.as_ref()?.hold()? {
            Hold::Until(time) => Some(time),
            Hold::UntilRoom => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vyre_ioq::{Queue, QueueLayout, Request};
    use vyre_uring::{Buffer, SimTransport};

    use super::*;
    use crate::buffer_table::BufferTable;
    use crate::file_table::FileTable;
    use crate::rights::Rights;

    /// Nothing of a removed queue stays held back or counted.
    #[test]
    fn a_removed_queue_leaves_no_trace() {
        let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
        let disk = tempfile::tempfile().expect("a temporary file");
        let file = files.insert(disk, Rights::READ).expect("fit");
        let pool = buffers
            .insert(Buffer::anonymous(4096).expect("memory"))
            .expect("fit");
        let (host, device) = Queue::anonymous(QueueLayout::with_slots(16)).expect("a queue");
        let sim = SimTransport::builder(1).build();
        let mut engine = Engine::new(sim, files, buffers, vec![host]).expect("accepted");
        let _clock = engine.drive_clock();
        let second = QueueLimits::new().operations_per_second(1);
        engine.set_limits(0, second).expect("there is one");
        for _ in 0..8 {
            let _ = device
                .submit(Request::read(file, 0, 8).into_buffer(pool, 0))
                .expect("free");
        }
        while engine.queue_counters(0).expect("served").succeeded == 0 {
            let _ = engine.step();
        }
        assert_eq!((engine.state.held, engine.state.backlogged), (1, 0));
        let removal = engine.remove_queue(0).expect("there is one");
        engine.cancel_removed(removal);
        assert!(engine.take_removed(removal).is_some());
        assert_eq!((engine.state.held, engine.state.backlogged), (0, 0));
        engine.stop(Duration::ZERO).expect("nothing is left");
    }
}
