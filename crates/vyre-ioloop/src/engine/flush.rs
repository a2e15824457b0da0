//! Flushes (SYNC and DURABLE), and what their completions mean for the files: the kernel reports each
//! failure only once. See [`lost_writes`](crate::lost_writes).

use rustix::io::Errno as OsErrno;
use vyre_ioq::Errno;
use vyre_uring::Operation;

use super::engine_state::EngineState;
use super::request_state::{Admitted, Flush, RequestState};
use super::slot_id::SlotId;
use crate::file_table::FileTable;
use crate::lost_writes::{Flushes, may_lose};
use crate::os_errno::device_errno;

/// Returns the flushes of the file that a request names.
fn flushes_of<'a>(files: &'a FileTable, request: &RequestState) -> Option<&'a Flushes> {
    let entry = files.entries.at(request.file()?)?;
    Some(&entry.flushes)
}

/// Returns whether a write fails with this errno before it moves anything.
const fn is_refusal(errno: OsErrno) -> bool {
    matches!(errno, OsErrno::NOSPC | OsErrno::DQUOT | OsErrno::FBIG) || !may_lose(errno)
}

impl EngineState {
    /// Rejects the flush of a file that has lost writes.
    pub(super) fn check_lost(&self, file: u32) -> Result<(), Errno> {
        let entry = self.files.entries.at(file).ok_or(Errno::EBADF)?;
        entry
            .flushes
            .lost()
            .map_or(Ok(()), |errno| Err(device_errno(errno)))
    }

    /// Returns the next operation of a request, and records the start of its flush if it is one.
    pub(super) fn next_operation(&mut self, id: SlotId) -> Option<Operation> {
        let queue = self.queues.get_mut(id.queue as usize)?;
        let request = queue.requests.get_mut(id.slot as usize)?;
        let mut operation = request.admitted.operation()?;
        match (&mut operation, request.flush) {
            // Whether the bytes can be written at all: see `flush_ended`.
            (Operation::Write { durable, .. }, Flush::Doubted { .. }) => *durable = false,
            (Operation::Write { durable: true, .. } | Operation::Sync { .. }, Flush::None) => {
                let flushes = flushes_of(&self.files, request)?;
                request.flush = Flush::Begun(flushes.begin());
            }
            _ => {}
        }
        Some(operation)
    }

    /// Cancels the start of a flush whose operation the transport did not take.
    #[cold]
    pub(super) fn not_started(&mut self, id: SlotId) {
        let Some(request) = self.queues[id.queue as usize]
            .requests
            .get_mut(id.slot as usize)
        else {
            return;
        };
        if let (Flush::Begun(round), Some(flushes)) =
            (request.flush, flushes_of(&self.files, request))
        {
            flushes.end(round);
            request.flush = Flush::None;
        }
    }

    /// Returns the result of a flush's operation for its request. `None` if it is not known yet.
    #[cold]
    pub(super) fn flush_ended(
        &mut self,
        id: SlotId,
        result: Result<u32, OsErrno>,
    ) -> Option<Result<u32, OsErrno>> {
        let request = &mut self.queues[id.queue as usize].requests[id.slot as usize];
        let Some(flushes) = flushes_of(&self.files, request) else {
            return Some(result);
        };
        match (request.flush, result) {
            (Flush::Begun(round), Err(errno)) if may_lose(errno) => {
                let is_write = matches!(request.admitted, Admitted::Write { .. });
                if is_write && flushes.repeats && request.cancelled.is_none() {
                    // The write has failed, and nothing was moved; or its flush has. To write the
                    // same bytes to the same id once more, without a flush, tells which.
                    request.flush = Flush::Doubted { round, errno };
                    self.enqueue(id);
                    return None;
                }
                if !is_write || flushes.repeats {
                    flushes.note(errno);
                }
                flushes.end(round);
                request.flush = Flush::None;
            }
            (Flush::Begun(round), _) => {
                let awaited = flushes.end(round);
                request.flush = awaited.map_or(Flush::None, Flush::Awaited);
            }
            (Flush::Doubted { .. }, Err(errno @ (OsErrno::INTR | OsErrno::AGAIN)))
                if request.may_retry(errno) =>
            {
                request.retries += 1;
                self.enqueue(id);
                return None;
            }
            (Flush::Doubted { round, errno }, Err(second)) if request.cancelled.is_none() => {
                // Nothing was moved, so nothing was lost except what the outcome reports. Where every
                // write is flushed, it may have been the flush again.
                if flushes.always && !is_refusal(second) {
                    flushes.note(errno);
                }
                flushes.end(round);
                request.flush = Flush::None;
            }
            (Flush::Doubted { round, errno }, _) => {
                flushes.note(errno);
                flushes.end(round);
                request.flush = Flush::None;
                return Some(Err(errno));
            }
            (Flush::None | Flush::Awaited(_), _) => {}
        }
        Some(result)
    }

    /// Stores the outcome of a flush, or keeps it until its success is certain.
    #[cold]
    pub(super) fn finish_flush(&mut self, id: SlotId, result: Result<u32, Errno>) {
        let request = &self.queues[id.queue as usize].requests[id.slot as usize];
        let result = match (request.flush, result) {
            (Flush::Awaited(_), Ok(_)) => match request.cancelled {
                None => {
                    self.unconfirmed.push(id);
                    return;
                }
                // Its time is over already.
                Some(reason) => Err(reason),
            },
            (_, Ok(moved)) => flushes_of(&self.files, request)
                .and_then(Flushes::lost)
                .map_or(Ok(moved), |errno| Err(device_errno(errno))),
            (_, error) => error,
        };
        self.finish(id, result);
    }

    /// Stores the outcomes of the flushes whose success is now certain.
    #[cold]
    pub(super) fn confirm_flushes(&mut self) {
        let mut next = 0;
        while let Some(&id) = self.unconfirmed.get(next) {
            let request = &mut self.queues[id.queue as usize].requests[id.slot as usize];
            let moved = request.moved;
            let flushes = flushes_of(&self.files, request);
            match (request.flush, flushes) {
                (Flush::Awaited(round), Some(flushes)) if request.admitted != Admitted::None => {
                    if !flushes.has_ended(round) {
                        next += 1;
                        continue;
                    }
                    request.flush = Flush::None;
                    self.unconfirmed.swap_remove(next);
                    self.finish_flush(id, Ok(moved));
                }
                // It was cancelled meanwhile.
                _ => {
                    self.unconfirmed.swap_remove(next);
                }
            }
        }
    }

    /// Counts the flush of a request as failed, because its result will not be seen: the kernel may
    /// have reported a failure to it alone.
    #[cold]
    pub(super) fn forsake_flush(&mut self, id: SlotId) {
        let request = &mut self.queues[id.queue as usize].requests[id.slot as usize];
        let (round, errno) = match request.flush {
            Flush::Begun(round) => (round, OsErrno::IO),
            Flush::Doubted { round, errno } => (round, errno),
            Flush::None | Flush::Awaited(_) => return,
        };
        request.flush = Flush::None;
        if let Some(flushes) = flushes_of(&self.files, request) {
            flushes.note(errno);
            flushes.end(round);
        }
    }

    /// Counts all flushes that the transport still holds as failed.
    pub(super) fn forsake_flushes(&mut self) {
        for queue in 0..self.queues.len() as u32 {
            for slot in 0..self.queues[queue as usize].requests.len() as u32 {
                self.forsake_flush(SlotId { queue, slot });
            }
        }
    }
}
