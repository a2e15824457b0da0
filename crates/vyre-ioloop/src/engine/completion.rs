//! Completion: what the end of an operation means for its request, and the end of a request.

use rustix::io::Errno as OsErrno;
use vyre_ioq::Errno;
use vyre_uring::{Completion, Transport};

use super::Engine;
use super::engine_state::EngineState;
use super::request_state::{Admitted, Flush, Next, RequestState};
use super::slot_id::SlotId;
use super::slot_lists::SlotList;

impl<T: Transport> Engine<T> {
    #[inline]
    pub(super) fn reap(&mut self) -> u32 {
        let state = &mut self.state;
        let reaped = self
            .transport
            .reap(|completion| state.completed(&completion));
        let confirms = !state.unconfirmed.is_empty();
        if confirms {
            state.confirm_flushes();
        }
        if confirms || reaped > 0 {
            state.publish_all_outcomes();
        }
        reaped
    }
}

impl EngineState {
    /// Processes the completion of an operation.
    #[inline(always)]
    pub(super) fn completed(&mut self, completion: &Completion) {
        let id = SlotId::from_user(completion.user);
        let Some(queue) = self.queues.get_mut(id.queue as usize) else {
            self.completed_elsewhere(completion);
            return;
        };
        let request = queue.requests.get_mut(id.slot as usize);
        let Some(request) = request.filter(|request| request.token == Some(completion.token))
        else {
            self.completed_elsewhere(completion);
            return;
        };
        request.token = None;
        self.shares.give_back(&mut queue.share);
        if let Some(limiter) = &mut queue.limiter
            && limiter.end(id.slot)
        {
            self.held -= 1;
            self.backlogged += queue.lists.len(SlotList::Backlog);
        }
        let Some(moved) = request.completes_with(completion.result) else {
            self.advance(id, completion.result);
            return;
        };
        match request.admitted {
            // What `finish` would do, without its tests.
            Admitted::Read(transfer) if request.has_only_entries() => {
                queue.counters.bytes_read += u64::from(moved);
                queue.end(id.slot, Ok(moved));
                self.release(Some(transfer.file), Some(transfer.buffer));
            }
            _ => self.finish(id, Ok(moved)),
        }
    }

    /// Processes the completion of an operation after which its request has not simply moved all of its
    /// bytes. It is not inlined, so that the loop over the others stays short.
    #[inline(never)]
    fn advance(&mut self, id: SlotId, mut result: Result<u32, OsErrno>) {
        let request = &mut self.queues[id.queue as usize].requests[id.slot as usize];
        if request.admitted.is_flush() {
            match self.flush_ended(id, result) {
                Some(ended) => result = ended,
                None => return,
            }
        }
        let request = &mut self.queues[id.queue as usize].requests[id.slot as usize];
        let align = request
            .file()
            .and_then(|file| self.files.entries.at(file))
            .and_then(|entry| entry.align.as_ref())
            .map_or(1, |align| align.offset);
        match request.advance(result, align) {
            Next::Finish(result) if request.admitted.is_flush() => self.finish_flush(id, result),
            Next::Finish(result) => self.finish(id, result),
            Next::Resume => {
                request.flush = Flush::None;
                self.counters.resumed += 1;
                self.enqueue(id);
            }
            Next::Retry => {
                request.flush = Flush::None;
                self.counters.retried += 1;
                self.enqueue(id);
            }
        }
    }

    /// Processes the completion of an operation whose request is in no slot: that of a removed queue, or of nothing.
    #[cold]
    pub(super) fn completed_elsewhere(&mut self, completion: &Completion) {
        let token = Some(completion.token);
        for number in 0..self.abandoned.len() {
            let left = &mut self.abandoned[number];
            let found = left.requests.iter().position(|it| it.token == token);
            let Some(found) = found else {
                continue;
            };
            let request = left.requests.swap_remove(found);
            self.shares.give_back(&mut left.share);
            if left.requests.is_empty() {
                self.abandoned.swap_remove(number);
                let capacity = self.shares.capacity();
                self.divide(capacity);
            }
            self.release(request.file(), request.buffer());
            return;
        }
        self.counters.stray += 1;
    }

    /// Releases an operation that ended after service did, without an outcome.
    pub(super) fn let_go(&mut self, completion: &Completion) {
        let id = SlotId::from_user(completion.user);
        let request = self.request_mut(id);
        let Some(request) = request.filter(|request| request.token == Some(completion.token))
        else {
            self.completed_elsewhere(completion);
            return;
        };
        let (file, buffer) = (request.file(), request.buffer());
        *request = RequestState::IDLE;
        self.release(file, buffer);
    }

    /// Stores the outcome of a request, and releases everything that the request held.
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
            Admitted::Prefetch(_) | Admitted::Map(_) => {}
        }
        let (file, buffer) = (request.file(), request.buffer());
        let sequence = request.sequence;
        let (timed, cancelled) = (request.expires != 0, request.cancelled.is_some());
        queue.end(id.slot, result);
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
