//! Completion: the consequences of an operation's end.

use vyre_uring::{Completion, Transport};

use super::Engine;
use super::engine_state::EngineState;
use super::request_state::{Flush, Next, RequestState};
use super::slot_id::SlotId;

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
    #[inline]
    pub(super) fn completed(&mut self, completion: &Completion) {
        let id = SlotId::from_user(completion.user);
        let Some(queue) = self.queues.get_mut(id.queue as usize) else {
            self.counters.stray += 1;
            return;
        };
        let request = queue.requests.get_mut(id.slot as usize);
        let Some(request) = request.filter(|request| request.token == Some(completion.token))
        else {
            self.counters.stray += 1;
            return;
        };
        request.token = None;
        self.shares.give_back(&mut queue.share);
        if let Some(moved) = request.completes_with(completion.result) {
            self.finish(id, Ok(moved));
            return;
        }
        let mut result = completion.result;
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

    /// Releases an operation that ended after service did, without an outcome.
    pub(super) fn let_go(&mut self, completion: &Completion) {
        let id = SlotId::from_user(completion.user);
        let request = self.request_mut(id);
        let Some(request) = request.filter(|request| request.token == Some(completion.token))
        else {
            self.counters.stray += 1;
            return;
        };
        let (file, buffer) = (request.file(), request.buffer());
        *request = RequestState::IDLE;
        self.release(file, buffer);
    }
}
