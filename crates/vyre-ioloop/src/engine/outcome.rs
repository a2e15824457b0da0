//! Outcomes: their publication to devices.

use vyre_ioq::Errno;
use vyre_uring::Transport;

use super::Engine;
use super::engine_state::EngineState;
use super::slot_id::SlotId;

impl<T: Transport> Engine<T> {
    /// Publishes the outcomes, and the counters of the queues that have changed.
    #[inline]
    pub(super) fn publish(&mut self) {
        for number in 0..self.state.queues.len() {
            self.state.publish_outcomes(number);
            let queue = &mut self.state.queues[number];
            if std::mem::take(&mut queue.has_counted) {
                queue.shared.publish(&queue.counters());
            }
        }
    }
}

impl EngineState {
    /// Stores the outcome of a fence whose deadline has passed. Returns whether there is one.
    pub(super) fn finish_fence(&mut self, id: SlotId, reason: Errno) {
        let queue = &mut self.queues[id.queue as usize];
        if queue.barriers.remove(id.slot) {
            queue.store_outcome(id.slot, Err(reason));
        }
    }

    /// Publishes the stored outcomes of a queue, and then those of the fences that are due.
    /// No other function of the engine does so while it serves.
    ///
    /// Fences come after the outcomes that they wait for. Each outcome is a release store, so a device
    /// that sees a fence's outcome sees the others. Outcomes are stored in runs with nothing between
    /// them, because a store that waits for its cache line delays all others.
    #[inline]
    pub(super) fn publish_outcomes(&mut self, queue: usize) {
        let state = &self.queues[queue];
        if !state.outcomes.is_empty() || state.barriers.has_due() {
            self.publish_some_outcomes(queue);
        }
    }

    fn publish_some_outcomes(&mut self, queue: usize) {
        let state = &mut self.queues[queue];
        if !state.outcomes.is_empty() {
            state.has_counted = true;
            let published = state.host.complete_batch(&state.outcomes);
            state.outcomes.clear();
            debug_assert!(published.is_ok(), "{published:?}");
        }
        while let Some(set) = state.barriers.pop_due() {
            state.has_counted = true;
            state.counters.succeeded += u64::from(set.fences.len());
            for slot in set.timed {
                let queue = queue as u32;
                self.deadlines.remove(SlotId { queue, slot });
            }
            let published = state.host.complete_all(set.fences, Ok(0));
            debug_assert!(published.is_ok(), "{published:?}");
        }
        // One load, unless threads of the device sleep until there are outcomes.
        state.host.wake_device();
    }

    /// Publishes the outcomes of every queue.
    #[inline]
    pub(super) fn publish_all_outcomes(&mut self) {
        for queue in 0..self.queues.len() {
            self.publish_outcomes(queue);
        }
    }
}
