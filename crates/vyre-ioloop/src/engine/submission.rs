//! Submission: from admitted requests to operations of the transport, each queue in its turn.

use vyre_ioq::Errno;
use vyre_uring::{Operation, PushError, Transport};

use super::Engine;
use super::backlog::Line;
use super::engine_state::Books;
use super::request_state::Work;
use super::shares::{LONG_OPERATION_BYTES, OPERATION_BYTES};
use super::slot_id::Place;
use crate::os_errno::from_os;

/// Result of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Push {
    /// The transport has taken the operation, of so many bytes, or has refused it for good.
    Done(u32),
    /// The queue may use no more of the transport, or the pass is over.
    NoShare,
    /// The transport is full.
    Full,
}

/// Result of a queue's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// The queue had nothing to give, or may use no more of the transport.
    Passed,
    Taken,
    /// The transport is full.
    Full,
}

impl<T: Transport> Engine<T> {
    /// Gives waiting requests to the transport, as many as it takes, and submits.
    #[inline]
    pub(super) fn start(&mut self) -> u32 {
        if self.books.waiting > 0 {
            self.serve_backlogs();
        }
        match self.transport.submit() {
            Ok(started) => started,
            Err(error) => {
                self.note_failure(error);
                0
            }
        }
    }

    /// Starts an admitted request, or makes it wait.
    #[cold]
    pub(super) fn begin(&mut self, place: Place, work: Work) {
        let served = &mut self.books.queues[place.queue as usize];
        match work {
            Work::Read(transfer) | Work::Write { transfer, .. } if transfer.len == 0 => {
                if transfer.unbounded {
                    served.share.count_unbounded();
                }
                self.books.finish(place, Ok(0));
                return;
            }
            Work::Sync { file, .. }
                if served.follow_sync(place.slot, file) || served.hold_sync(place.slot) =>
            {
                return;
            }
            _ if work.is_unbounded() && !self.books.shares.take_unbounded(&mut served.share) => {
                self.books.counters.deferred += 1;
                served.lines.push(Line::Parked, place.slot);
                return;
            }
            _ => {}
        }
        // Nobody overtakes those who wait: there may be room for one queue's and not for another's,
        // so all of them are then served in turn.
        if self.books.waiting > 0 || !matches!(self.push(place), Push::Done(_)) {
            self.books.counters.deferred += 1;
            self.books.enqueue(place);
        }
    }

    /// Serves the queues that have requests waiting in turn, until the pass has given as many bytes
    /// to the transport as it may, or no queue can give it anything. The next pass continues with
    /// the next queue.
    #[cold]
    fn serve_backlogs(&mut self) {
        let queues = self.books.queues.len();
        let mut passed = 0;
        while passed < queues && self.books.shares.has_bytes() {
            let queue = self.turn;
            self.turn = (queue + 1) % queues;
            match self.serve_backlog(queue) {
                Turn::Passed => passed += 1,
                Turn::Taken => passed = 0,
                Turn::Full => return,
            }
        }
    }

    /// Serves one queue for a turn.
    fn serve_backlog(&mut self, queue: usize) -> Turn {
        let books = &mut self.books;
        let served = &mut books.queues[queue];
        if served.lines.is_empty(Line::Ready) || !books.shares.has_room(&served.share) {
            return Turn::Passed;
        }
        served.share.begin_turn();
        while self.books.queues[queue].share.has_credit() {
            let Some(slot) = self.books.dequeue(queue) else {
                break;
            };
            let place = Place {
                queue: queue as u32,
                slot,
            };
            match self.push(place) {
                Push::Done(bytes) => {
                    let share = &mut self.books.queues[queue].share;
                    share.charge(bytes);
                    if self.books.shares.borrows(share) {
                        break;
                    }
                }
                Push::NoShare => {
                    self.books.enqueue_first(place);
                    break;
                }
                Push::Full => {
                    self.books.enqueue_first(place);
                    return Turn::Full;
                }
            }
        }
        Turn::Taken
    }

    /// Gives a request's next operation to the transport.
    fn push(&mut self, place: Place) -> Push {
        let queue = place.queue as usize;
        let shares = &self.books.shares;
        if !shares.has_bytes() || !shares.has_room(&self.books.queues[queue].share) {
            return Push::NoShare;
        }
        let Some(mut operation) = self.books.next_operation(place) else {
            return Push::Done(0);
        };
        let mut bytes = 0;
        if let Operation::Read { len, .. } | Operation::Write { len, .. } = &mut operation {
            if *len > OPERATION_BYTES {
                *len = self.books.piece(place).min(*len);
            }
            bytes = *len;
        }
        match self.transport.push(operation, place.to_user()) {
            Ok(token) => {
                let served = &mut self.books.queues[queue];
                served.records[place.slot as usize].token = Some(token);
                self.books.counters.operations += 1;
                self.books.shares.take(&mut served.share, bytes);
                Push::Done(bytes)
            }
            Err(PushError::Full) => {
                self.books.not_started(place);
                Push::Full
            }
            Err(error) => {
                self.books.not_started(place);
                self.books.forsake_flush(place);
                self.refused(place, error);
                Push::Done(0)
            }
        }
    }

    /// Ends a request whose operation the transport will not take at all.
    #[cold]
    fn refused(&mut self, place: Place, error: PushError) {
        let errno = match error {
            PushError::UnknownFile(_) | PushError::UnknownBuffer(_) => Errno::EBADF,
            PushError::OutOfRange => Errno::ERANGE,
            PushError::Poisoned(errno) => {
                self.failure.get_or_insert(errno);
                from_os(errno)
            }
            _ => Errno::EIO,
        };
        self.books.finish(place, Err(errno));
    }
}

impl Books {
    /// Returns the largest number of bytes that one operation of a request may move.
    #[cold]
    fn piece(&self, place: Place) -> u32 {
        let record = &self.queues[place.queue as usize].records[place.slot as usize];
        let entry = record.file().and_then(|file| self.files.entries.at(file));
        let is_direct = entry.is_some_and(|entry| entry.align.is_some());
        if is_direct || record.work.is_flush() {
            LONG_OPERATION_BYTES
        } else {
            OPERATION_BYTES
        }
    }
}
