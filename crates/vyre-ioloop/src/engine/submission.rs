//! Submission: admitted requests become operations of the transport, each queue in its turn.

use vyre_ioq::Errno;
use vyre_uring::{Operation, PushError, Transport};

use super::Engine;
use super::engine_state::EngineState;
use super::request_state::Admitted;
use super::shares::{LONG_OPERATION_BYTES, OPERATION_BYTES};
use super::slot_id::SlotId;
use super::slot_lists::SlotList;
use crate::os_errno::from_os;

/// Result of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Push {
    /// The transport has taken an operation of this many bytes, or has refused it permanently.
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
    /// Gives the transport as many waiting requests as it takes, and submits.
    #[inline]
    pub(super) fn submit(&mut self) -> u32 {
        if self.state.held > 0 {
            self.state.resume_due(self.clock.now());
        }
        if self.state.backlogged > 0 {
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
    pub(super) fn submit_or_wait(&mut self, id: SlotId, admitted: Admitted) {
        let queue = &mut self.state.queues[id.queue as usize];
        match admitted {
            Admitted::Read(transfer) | Admitted::Write { transfer, .. } if transfer.len == 0 => {
                if transfer.unbounded {
                    queue.share.count_unbounded();
                }
                self.state.finish(id, Ok(0));
                return;
            }
            Admitted::Sync { file, .. }
                if queue.follow_sync(id.slot, file) || queue.hold_sync(id.slot) =>
            {
                return;
            }
            _ if admitted.is_unbounded() && !self.state.shares.take_unbounded(&mut queue.share) => {
                self.state.counters.waited += 1;
                queue.lists.push(SlotList::Parked, id.slot);
                return;
            }
            _ => {}
        }
        // Nobody overtakes those who wait: there may be room for one queue's and not for another's,
        // so all of them are then served in turn.
        let queue = &self.state.queues[id.queue as usize];
        let overtakes = queue.is_held() || !queue.lists.is_empty(SlotList::Backlog);
        if self.state.backlogged > 0 || overtakes || !matches!(self.push(id), Push::Done(_)) {
            self.state.counters.waited += 1;
            self.state.enqueue(id);
        }
    }

    /// Serves the queues that have requests waiting in turn, until the pass has given as many bytes
    /// to the transport as it may, or no queue can give it anything. The next pass continues with
    /// the next queue.
    #[cold]
    fn serve_backlogs(&mut self) {
        let queues = self.state.queues.len();
        let mut passed = 0;
        while passed < queues && self.state.shares.has_bytes() {
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
        let state = &mut self.state;
        let served = &mut state.queues[queue];
        if served.lists.is_empty(SlotList::Backlog)
            || served.is_held()
            || !state.shares.has_room(&served.share)
        {
            return Turn::Passed;
        }
        served.share.begin_turn();
        while self.state.queues[queue].share.has_credit() {
            let Some(slot) = self.state.dequeue(queue) else {
                break;
            };
            let id = SlotId {
                queue: queue as u32,
                slot,
            };
            match self.push(id) {
                Push::Done(bytes) => {
                    let share = &mut self.state.queues[queue].share;
                    share.charge(bytes);
                    if self.state.shares.borrows(share) {
                        break;
                    }
                }
                Push::NoShare => {
                    self.state.enqueue_first(id);
                    break;
                }
                Push::Full => {
                    self.state.enqueue_first(id);
                    return Turn::Full;
                }
            }
        }
        Turn::Taken
    }

    /// Pushes an operation of a request into the transport, and records it as in flight.
    #[inline(always)]
    pub(super) fn push_operation(
        &mut self,
        id: SlotId,
        operation: Operation,
        bytes: u32,
    ) -> Result<(), PushError> {
        let token = self.transport.push(operation, id.to_user())?;
        let queue = &mut self.state.queues[id.queue as usize];
        queue.requests[id.slot as usize].token = Some(token);
        self.state.counters.operations += 1;
        self.state.shares.take(&mut queue.share, bytes);
        if let Some(limiter) = &mut queue.limiter {
            limiter.start(id.slot, bytes, self.clock.now());
        }
        Ok(())
    }

    /// Makes a request wait if the transport had no room for its first operation, or ends it if the
    /// transport refuses the operation.
    #[cold]
    pub(super) fn not_pushed(&mut self, id: SlotId, error: PushError) {
        if matches!(error, PushError::Full) {
            self.state.counters.waited += 1;
            self.state.enqueue(id);
        } else {
            self.refused(id, error);
        }
    }

    /// Gives a request's next operation to the transport.
    fn push(&mut self, id: SlotId) -> Push {
        let queue = id.queue as usize;
        let shares = &self.state.shares;
        if !shares.has_bytes() || !shares.has_room(&self.state.queues[queue].share) {
            return Push::NoShare;
        }
        let limited = &self.state.queues[queue];
        if let Some(limiter) = &limited.limiter
            && let Some(hold) = limiter.holds(limited.share.entries(), self.clock.now())
        {
            self.state.hold_back(queue, hold);
            return Push::NoShare;
        }
        let Some(mut operation) = self.state.next_operation(id) else {
            return Push::Done(0);
        };
        let mut bytes = 0;
        if let Operation::Read { len, .. } | Operation::Write { len, .. } = &mut operation {
            if *len > OPERATION_BYTES {
                *len = self.state.piece(id).min(*len);
            }
            bytes = *len;
        }
        match self.push_operation(id, operation, bytes) {
            Ok(()) => Push::Done(bytes),
            Err(PushError::Full) => {
                self.state.not_started(id);
                Push::Full
            }
            Err(error) => {
                self.state.not_started(id);
                self.state.forsake_flush(id);
                self.refused(id, error);
                Push::Done(0)
            }
        }
    }

    /// Ends a request whose operation the transport refuses.
    #[cold]
    fn refused(&mut self, id: SlotId, error: PushError) {
        let errno = match error {
            PushError::UnknownFile(_) | PushError::UnknownBuffer(_) => Errno::EBADF,
            PushError::OutOfRange => Errno::ERANGE,
            PushError::Unsupported => Errno::EOPNOTSUPP,
            PushError::Poisoned(errno) => {
                self.failure.get_or_insert(errno);
                from_os(errno)
            }
            _ => Errno::EIO,
        };
        self.state.finish(id, Err(errno));
    }
}

impl EngineState {
    /// Returns the largest number of bytes that one operation of a request may move.
    #[cold]
    fn piece(&self, id: SlotId) -> u32 {
        let request = &self.queues[id.queue as usize].requests[id.slot as usize];
        let entry = request.file().and_then(|file| self.files.entries.at(file));
        let is_direct = entry.is_some_and(|entry| entry.align.is_some());
        if is_direct || request.admitted.is_flush() {
            LONG_OPERATION_BYTES
        } else {
            OPERATION_BYTES
        }
    }
}
