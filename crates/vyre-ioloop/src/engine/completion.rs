//! Completion: what follows from how an operation ended.

use vyre_uring::{Completion, Transport};

use super::Engine;
use super::engine_state::Books;
use super::request_state::{Flush, Next, Record};
use super::slot_id::Place;

impl<T: Transport> Engine<T> {
    #[inline]
    pub(super) fn reap(&mut self) -> u32 {
        let books = &mut self.books;
        let reaped = self
            .transport
            .reap(|completion| books.completed(&completion));
        let settles = !books.unsettled.is_empty();
        if settles {
            books.settle_flushes();
        }
        if settles || reaped > 0 {
            books.deliver();
        }
        reaped
    }
}

impl Books {
    /// Takes in how an operation ended.
    #[inline]
    pub(super) fn completed(&mut self, completion: &Completion) {
        let place = Place::from_user(completion.user);
        let Some(queue) = self.queues.get_mut(place.queue as usize) else {
            self.counters.stray += 1;
            return;
        };
        let record = queue.records.get_mut(place.slot as usize);
        let Some(record) = record.filter(|record| record.token == Some(completion.token)) else {
            self.counters.stray += 1;
            return;
        };
        record.token = None;
        self.shares.give_back(&mut queue.share);
        if let Some(moved) = record.completes_with(completion.result) {
            self.finish(place, Ok(moved));
            return;
        }
        let mut result = completion.result;
        if record.work.is_flush() {
            match self.flush_ended(place, result) {
                Some(ended) => result = ended,
                None => return,
            }
        }
        let record = &mut self.queues[place.queue as usize].records[place.slot as usize];
        let align = record
            .file()
            .and_then(|file| self.files.entries.at(file))
            .and_then(|entry| entry.align.as_ref())
            .map_or(1, |align| align.offset);
        match record.advance(result, align) {
            Next::Finish(result) if record.work.is_flush() => self.finish_flush(place, result),
            Next::Finish(result) => self.finish(place, result),
            Next::Resume => {
                record.flush = Flush::None;
                self.counters.resumed += 1;
                self.enqueue(place);
            }
            Next::Retry => {
                record.flush = Flush::None;
                self.counters.retried += 1;
                self.enqueue(place);
            }
        }
    }

    /// Releases an operation that ended after the end of service: nothing is answered.
    pub(super) fn let_go(&mut self, completion: &Completion) {
        let place = Place::from_user(completion.user);
        let record = self.record_mut(place);
        let Some(record) = record.filter(|record| record.token == Some(completion.token)) else {
            self.counters.stray += 1;
            return;
        };
        let (file, buffer) = (record.file(), record.buffer());
        *record = Record::IDLE;
        self.release(file, buffer);
    }
}
