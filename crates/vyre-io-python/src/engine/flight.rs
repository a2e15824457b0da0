//! Requests in flight: how they begin, and how they end.

use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use vyre_io::{
    Errno, FileHandle, FileOptions, IoLoop, LoopState, Request, Reservation, TableError, Ticket,
};

use super::{Engine, Inner, Refused, State};
use crate::batch::Batch;
use crate::op::{CHUNK, Kind, Op, Place, pause};

/// A request of an operation.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) ticket: Ticket,
    pub(super) op: Op,
    /// The number of bytes that it asks for.
    asked: usize,
}

/// A request that has ended.
struct Landed {
    op: Op,
    asked: usize,
    result: Result<usize, Errno>,
    /// The slot, whose transfer memory holds the bytes. `None` if the loop is gone.
    slot: Option<Reservation>,
}

/// The end of an attempt to begin an operation.
enum Begun {
    Yes,
    /// There is no slot, or no room in a table: later.
    Later(Op),
    No(Op, Errno),
}

impl Engine {
    /// Polls until a batch is done, but not for long after `limit`. `began` is the time of the first call for this
    /// batch. Returns whether it is done.
    pub(crate) fn wait(
        &self,
        batch: &Batch,
        began: Instant,
        limit: Duration,
    ) -> Result<bool, Refused> {
        let until = Instant::now() + limit;
        loop {
            self.poll()?;
            if batch.is_done() {
                return Ok(true);
            }
            if !pause(began, until) {
                return Ok(false);
            }
        }
    }
}

impl Inner {
    /// Ends what has an outcome, and begins what waited for it.
    pub(super) fn move_on<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        loop {
            let landed = self.take_landed(&mut state);
            let (has_begun, refused) = self.begin_waiting(&mut state);
            // Nothing is dropped, copied or unregistered while others wait for the lock.
            drop(state);
            if has_begun {
                self.device.ring_and_wake();
            }
            for (op, errno) in refused {
                self.end(op, Err(errno));
            }
            if landed.is_empty() {
                return;
            }
            let count = landed.len();
            let unfinished: Vec<Op> = landed
                .into_iter()
                .filter_map(|landed| self.settle(landed))
                .collect();
            state = self.lock();
            state.settling -= count;
            for op in unfinished {
                state.waiting.push_front(op);
            }
            if state.waiting.is_empty() {
                return;
            }
        }
    }

    /// Removes the requests that have an outcome, and those that will never have one.
    fn take_landed(&self, state: &mut State) -> Vec<Landed> {
        // Before the outcomes: what the loop stored before it ended is visible then.
        let is_gone = self.device.host_state().is_some_and(LoopState::is_gone);
        let mut landed = Vec::new();
        let mut index = 0;
        while let Some(flight) = state.flights.get(index) {
            if !is_gone && self.device.poll(&flight.ticket).is_none() {
                index += 1;
                continue;
            }
            let Flight { ticket, op, asked } = state.flights.swap_remove(index);
            let (result, slot) = match self.device.take_and_keep(ticket) {
                Ok((outcome, slot)) => (outcome.bytes().map(|count| count as usize), Some(slot)),
                Err(_) => (Err(Errno::ECANCELED), None),
            };
            landed.push(Landed {
                op,
                asked,
                result,
                slot,
            });
        }
        state.settling += landed.len();
        landed
    }

    /// Publishes requests for the operations that wait, as far as there is room. Returns whether there are any, and the
    /// operations that cannot begin.
    fn begin_waiting(&self, state: &mut State) -> (bool, Vec<(Op, Errno)>) {
        let (mut has_begun, mut refused) = (false, Vec::new());
        while let Some(op) = state.waiting.pop_front() {
            match self.begin(state, op) {
                Begun::Yes => has_begun = true,
                Begun::No(op, errno) => refused.push((op, errno)),
                // Nothing will end that could make room.
                Begun::Later(op) if state.flights.is_empty() && state.settling == 0 => {
                    refused.push((op, Errno::from_raw(libc::ENOMEM.unsigned_abs())));
                }
                Begun::Later(op) => {
                    state.waiting.push_front(op);
                    break;
                }
            }
        }
        (has_begun, refused)
    }

    fn begin(&self, state: &mut State, mut op: Op) -> Begun {
        if op.is_cancelled() {
            return Begun::No(op, Errno::ECANCELED);
        }
        if op.file.is_directory && op.kind != Kind::Sync {
            return Begun::No(op, Errno::from_raw(libc::EISDIR.unsigned_abs()));
        }
        let file = match self.file_handle(state, &op) {
            Ok(handle) => handle,
            Err(errno) => return Begun::No(op, errno),
        };
        if op.needs_own_place() {
            op.place = self.own_place(&op);
            if op.place.is_none() {
                return Begun::Later(op);
            }
        }
        let Ok(slot) = self.device.reserve() else {
            return Begun::Later(op);
        };
        let (buffer, at) = match op.place.get_or_insert(Place::Transfer) {
            Place::Transfer => {
                let at = slot.slot() as usize * CHUNK;
                if let (Kind::Write, Some(span)) = (op.kind, &op.span) {
                    span.copy_to(&self.transfer, at);
                }
                (self.transfer_handle, at)
            }
            Place::Own { handle } => (*handle, op.moved),
            Place::Registered { registration, at } => (registration.handle, *at + op.moved),
        };
        let asked = op.next_len();
        let (offset, at) = (op.offset + op.moved as u64, at as u64);
        // At most 1 GiB.
        let count = asked as u32;
        let request = match op.kind {
            Kind::Read => Request::read(file, offset, count).into_buffer(buffer, at),
            Kind::Write => Request::write(file, offset, count).from_buffer(buffer, at),
            Kind::Sync => Request::sync(file),
        };
        let ticket = self.device.publish(slot, &request);
        state.flights.push(Flight { ticket, op, asked });
        Begun::Yes
    }

    /// Returns the loop's handle for an operation's file.
    fn file_handle(&self, state: &mut State, op: &Op) -> Result<FileHandle, Errno> {
        if let Some(&handle) = state.files.get(&op.file.number) {
            return Ok(handle);
        }
        let insert = |io: &IoLoop| {
            let file = op.file.file.try_clone()?;
            io.insert_file(file, .., FileOptions::new(op.file.rights()))
        };
        let mut inserted = self.with_loop(insert).unwrap_or(Err(TableError::Ended));
        if let Err(TableError::NoRoom { .. }) = inserted {
            self.forget_idle_files(state);
            inserted = self.with_loop(insert).unwrap_or(Err(TableError::Ended));
        }
        let handle = inserted.map_err(|error| errno_of(&error))?;
        state.files.insert(op.file.number, handle);
        Ok(handle)
    }

    /// Has the loop forget all files on which nothing is in flight.
    fn forget_idle_files(&self, state: &mut State) {
        let State { flights, files, .. } = state;
        files.retain(|&number, &mut handle| {
            let is_used = flights.iter().any(|flight| flight.op.file.number == number);
            if !is_used {
                self.with_loop(|io| io.revoke_file(handle));
            }
            is_used
        });
    }

    /// Ends an operation, or returns it if it needs another request.
    fn settle(&self, landed: Landed) -> Option<Op> {
        let Landed {
            mut op,
            asked,
            result,
            slot,
        } = landed;
        if let (Some(slot), Ok(count)) = (&slot, result) {
            self.copy_out(&op, slot.slot(), count);
        }
        if let Some(slot) = slot {
            self.device.unreserve(slot);
        }
        if let Ok(count) = result
            && count == asked
            && op.moved + count < op.len()
        {
            op.moved += count;
            return Some(op);
        }
        self.end(op, result);
        None
    }
}

/// Returns the errno that open(2) or read(2) would give.
fn errno_of(error: &TableError) -> Errno {
    Errno::from_raw(match error {
        TableError::Directory => libc::EISDIR.unsigned_abs(),
        TableError::NotReadable | TableError::NotWritable => libc::EBADF.unsigned_abs(),
        TableError::NoRoom { .. } | TableError::Full => libc::ENFILE.unsigned_abs(),
        TableError::Ended => return Errno::ECANCELED,
        TableError::Examine(error) => error
            .raw_os_error()
            .map_or(libc::EIO.unsigned_abs(), i32::unsigned_abs),
        _ => return Errno::EIO,
    })
}
