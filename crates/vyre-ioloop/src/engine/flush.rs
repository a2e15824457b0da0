//! Flushes (SYNC and DURABLE), of which the kernel reports each failure once, and what their
//! completions mean for the files. See [`lost_writes`](crate::lost_writes).

use rustix::io::Errno as OsErrno;
use vyre_ioq::Errno;
use vyre_uring::Operation;

use super::engine_state::Books;
use super::request_state::{Flush, Record, Work};
use super::slot_id::Place;
use crate::file_table::FileTable;
use crate::lost_writes::{Flushes, may_lose};
use crate::os_errno::told;

/// Returns the flushes of the file that a request names.
fn flushes_of<'a>(files: &'a FileTable, record: &Record) -> Option<&'a Flushes> {
    let entry = files.entries.at(record.file()?)?;
    Some(&entry.flushes)
}

/// Returns whether a write fails with this errno before it moves anything.
const fn is_refusal(errno: OsErrno) -> bool {
    matches!(errno, OsErrno::NOSPC | OsErrno::DQUOT | OsErrno::FBIG) || !may_lose(errno)
}

impl Books {
    /// Refuses to flush a file that has lost writes.
    pub(super) fn check_lost(&self, file: u32) -> Result<(), Errno> {
        let entry = self.files.entries.at(file).ok_or(Errno::EBADF)?;
        entry
            .flushes
            .lost()
            .map_or(Ok(()), |errno| Err(told(errno)))
    }

    /// Returns the operation that takes a request on, and begins its flush if it is one.
    pub(super) fn next_operation(&mut self, place: Place) -> Option<Operation> {
        let queue = self.queues.get_mut(place.queue as usize)?;
        let record = queue.records.get_mut(place.slot as usize)?;
        let mut operation = record.work.operation()?;
        match (&mut operation, record.flush) {
            // Whether the bytes can be written at all: see `flush_ended`.
            (Operation::Write { durable, .. }, Flush::Doubted { .. }) => *durable = false,
            (Operation::Write { durable: true, .. } | Operation::Sync { .. }, Flush::None) => {
                let flushes = flushes_of(&self.files, record)?;
                record.flush = Flush::Begun(flushes.begin());
            }
            _ => {}
        }
        Some(operation)
    }

    /// Takes the beginning of a flush back: the transport did not take the operation.
    #[cold]
    pub(super) fn not_started(&mut self, place: Place) {
        let Some(record) = self.queues[place.queue as usize]
            .records
            .get_mut(place.slot as usize)
        else {
            return;
        };
        if let (Flush::Begun(round), Some(flushes)) =
            (record.flush, flushes_of(&self.files, record))
        {
            flushes.end(round);
            record.flush = Flush::None;
        }
    }

    /// Returns what an operation of a flush ended with, as far as the request is concerned. `None`
    /// if that is not known yet.
    #[cold]
    pub(super) fn flush_ended(
        &mut self,
        place: Place,
        result: Result<u32, OsErrno>,
    ) -> Option<Result<u32, OsErrno>> {
        let record = &mut self.queues[place.queue as usize].records[place.slot as usize];
        let Some(flushes) = flushes_of(&self.files, record) else {
            return Some(result);
        };
        match (record.flush, result) {
            (Flush::Begun(round), Err(errno)) if may_lose(errno) => {
                let is_write = matches!(record.work, Work::Write { .. });
                if is_write && flushes.repeats && record.cancelled.is_none() {
                    // The write has failed, and nothing was moved; or its flush has. To write the
                    // same bytes to the same place once more, without a flush, tells which.
                    record.flush = Flush::Doubted { round, errno };
                    self.enqueue(place);
                    return None;
                }
                if !is_write || flushes.repeats {
                    flushes.note(errno);
                }
                flushes.end(round);
                record.flush = Flush::None;
            }
            (Flush::Begun(round), _) => {
                let awaited = flushes.end(round);
                record.flush = awaited.map_or(Flush::None, Flush::Awaited);
            }
            (Flush::Doubted { .. }, Err(errno @ (OsErrno::INTR | OsErrno::AGAIN)))
                if record.may_retry(errno) =>
            {
                record.retries += 1;
                self.enqueue(place);
                return None;
            }
            (Flush::Doubted { round, errno }, Err(second)) if record.cancelled.is_none() => {
                // Nothing was moved, so nothing was lost but what the device is told of. Where every
                // write is flushed, it may have been the flush again.
                if flushes.always && !is_refusal(second) {
                    flushes.note(errno);
                }
                flushes.end(round);
                record.flush = Flush::None;
            }
            (Flush::Doubted { round, errno }, _) => {
                flushes.note(errno);
                flushes.end(round);
                record.flush = Flush::None;
                return Some(Err(errno));
            }
            (Flush::None | Flush::Awaited(_), _) => {}
        }
        Some(result)
    }

    /// Gives a flush its outcome, or keeps it until its success is certain.
    #[cold]
    pub(super) fn finish_flush(&mut self, place: Place, result: Result<u32, Errno>) {
        let record = &self.queues[place.queue as usize].records[place.slot as usize];
        let result = match (record.flush, result) {
            (Flush::Awaited(_), Ok(_)) => match record.cancelled {
                None => {
                    self.unsettled.push(place);
                    return;
                }
                // Its time is over already.
                Some(reason) => Err(reason),
            },
            (_, Ok(moved)) => flushes_of(&self.files, record)
                .and_then(Flushes::lost)
                .map_or(Ok(moved), |errno| Err(told(errno))),
            (_, error) => error,
        };
        self.finish(place, result);
    }

    /// Gives the flushes their outcomes whose success is certain by now.
    #[cold]
    pub(super) fn settle_flushes(&mut self) {
        let mut next = 0;
        while let Some(&place) = self.unsettled.get(next) {
            let record = &mut self.queues[place.queue as usize].records[place.slot as usize];
            let moved = record.moved;
            let flushes = flushes_of(&self.files, record);
            match (record.flush, flushes) {
                (Flush::Awaited(round), Some(flushes)) if record.work != Work::None => {
                    if !flushes.has_ended(round) {
                        next += 1;
                        continue;
                    }
                    record.flush = Flush::None;
                    self.unsettled.swap_remove(next);
                    self.finish_flush(place, Ok(moved));
                }
                // It was cancelled meanwhile.
                _ => {
                    self.unsettled.swap_remove(next);
                }
            }
        }
    }

    /// Counts the flush of a request as failed, since nobody will learn how it ended: the kernel
    /// may have reported a failure to it that it reports to nobody else.
    #[cold]
    pub(super) fn forsake_flush(&mut self, place: Place) {
        let record = &mut self.queues[place.queue as usize].records[place.slot as usize];
        let (round, errno) = match record.flush {
            Flush::Begun(round) => (round, OsErrno::IO),
            Flush::Doubted { round, errno } => (round, errno),
            Flush::None | Flush::Awaited(_) => return,
        };
        record.flush = Flush::None;
        if let Some(flushes) = flushes_of(&self.files, record) {
            flushes.note(errno);
            flushes.end(round);
        }
    }

    /// Counts all flushes that the transport still has as failed.
    pub(super) fn forsake_flushes(&mut self) {
        for queue in 0..self.queues.len() as u32 {
            for slot in 0..self.queues[queue as usize].records.len() as u32 {
                self.forsake_flush(Place { queue, slot });
            }
        }
    }
}
