//! Outcomes: the end of a request, its effect on waiting requests, and the publication to devices.

use vyre_ioq::Errno;
use vyre_uring::Transport;

use super::Engine;
use super::engine_state::EngineState;
use super::request_state::Admitted;
use super::slot_id::SlotId;
use super::slot_lists::SlotList;

impl<T: Transport> Engine<T> {
    /// Publishes the outcomes, and the counters of the queues that have changed.
    #[inline]
    pub(super) fn publish(&mut self) {
        for (number, shared) in self.shared.queues.iter().enumerate() {
            self.state.publish_outcomes(number);
            let queue = &mut self.state.queues[number];
            if std::mem::take(&mut queue.has_counted) {
                shared.publish(&queue.counters());
            }
        }
    }
}

impl EngineState {
    /// Stores the outcome of a request, and releases everything that the request held.
    #[inline]
    pub(super) fn finish(&mut self, id: SlotId, result: Result<u32, Errno>) {
        let Some(queue) = self.queues.get_mut(id.queue as usize) else {
            return;
        };
        let Some(request) = queue.requests.get_mut(id.slot as usize) else {
            return;
        };
        let moved = u64::from(result.unwrap_or(0));
        let (mut is_write, mut is_sync) = (false, false);
        let unbounded = request.admitted.is_unbounded();
        match request.admitted {
            Admitted::None => return,
            Admitted::Read(_) => queue.counters.bytes_read += moved,
            Admitted::Write { .. } => {
                is_write = true;
                queue.counters.bytes_written += moved;
            }
            Admitted::Sync { .. } => is_sync = true,
            Admitted::Prefetch(_) => {}
        }
        let (file, buffer) = (request.file(), request.buffer());
        let (epoch, sequence) = (request.epoch, request.sequence);
        let (timed, cancelled) = (request.expires != 0, request.cancelled.is_some());
        // Nothing else: the next admission writes it all.
        request.admitted = Admitted::None;
        request.expires = 0;
        queue.store_outcome(id.slot, result);
        queue.barriers.complete(epoch);
        if timed {
            self.deadlines.remove(id);
        }
        if cancelled && queue.lists.remove(id.slot).is_some() {
            self.cancelling -= 1;
        }
        if unbounded {
            self.unbounded_finished(id.queue);
        }
        if is_write {
            self.write_finished(id, file, sequence);
        }
        self.release(file, buffer);
        if is_sync {
            self.sync_finished(id, result, cancelled);
        }
    }

    /// Stores the outcome of a fence whose deadline has passed. Returns whether there is one.
    pub(super) fn finish_fence(&mut self, id: SlotId, reason: Errno) {
        let queue = &mut self.queues[id.queue as usize];
        if queue.barriers.remove(id.slot) {
            queue.store_outcome(id.slot, Err(reason));
        }
    }

    /// Ends a round of sweeps: the fences that it has covered are due, or wait in an epoch.
    #[inline]
    pub(super) fn end_round(&mut self, queue: usize) {
        let deadlines = &mut self.deadlines;
        let number = queue as u32;
        self.queues[queue].barriers.end_round(|slot, expires| {
            let queue = number;
            deadlines.insert(SlotId { queue, slot }, expires);
        });
    }

    /// Publishes the stored outcomes of a queue, and then those of the fences that are due.
    /// No other function of the engine does so.
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
    }

    /// Publishes the outcomes of every queue.
    #[inline]
    pub(super) fn publish_all_outcomes(&mut self) {
        for queue in 0..self.queues.len() {
            self.publish_outcomes(queue);
        }
    }

    /// Lets the next parked request of a queue proceed after one on an unbounded file has ended.
    #[cold]
    fn unbounded_finished(&mut self, queue: u32) {
        let state = &mut self.queues[queue as usize];
        state.share.give_back_unbounded();
        if !state.lists.is_empty(SlotList::Parked)
            && self.shares.take_unbounded(&mut state.share)
            && let Some(slot) = state.lists.pop(SlotList::Parked)
        {
            self.enqueue(SlotId { queue, slot });
        }
    }

    /// Counts the end of a request on its table entries.
    #[inline]
    pub(super) fn release(&mut self, file: Option<u32>, buffer: Option<u32>) {
        if let Some(file) = file
            && self.files.entries.release(file)
        {
            self.reclaimable.files.push(file);
        }
        if let Some(buffer) = buffer
            && self.buffers.entries.release(buffer)
        {
            self.reclaimable.buffers.push(buffer);
        }
    }
}
