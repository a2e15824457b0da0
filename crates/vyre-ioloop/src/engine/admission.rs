//! Admission: from published slots to requests that the engine works on.

use vyre_ioq::{Errno, Flags, Request};
use vyre_uring::{FileSlot, Transport};

use super::Engine;
use super::checks::{Plan, resolve};
use super::request_state::Work;
use super::slot_id::Place;

impl<T: Transport> Engine<T> {
    #[cold]
    pub(super) fn refuse(&mut self, queue: usize, slot: u32, errno: Errno) {
        self.books.queues[queue].answer(slot, Err(errno));
    }

    #[inline(always)]
    pub(super) fn take_in(
        &mut self,
        queue: usize,
        slot: u32,
        request: &Request,
        expires: impl FnOnce(&Self) -> u64,
    ) {
        let place = Place {
            queue: queue as u32,
            slot,
        };
        if let Err(errno) = self.admit(place, request, expires) {
            self.books.queues[queue].answer(slot, Err(errno));
        }
    }

    /// Checks a claimed request and starts it. An error is the device's outcome, and leaves nothing
    /// behind. `expires` is computed late: what is not in a register by then need not be saved.
    #[inline(always)]
    fn admit(
        &mut self,
        place: Place,
        request: &Request,
        expires: impl FnOnce(&Self) -> u64,
    ) -> Result<(), Errno> {
        let plan = resolve(&self.books.files, &self.books.buffers, request)?;
        let work = match plan {
            Plan::Read(transfer) => Work::Read(transfer),
            Plan::Write(transfer) => {
                let durable = transfer.durable;
                if durable {
                    self.books.check_lost(transfer.file)?;
                }
                Work::Write { transfer, durable }
            }
            Plan::Sync { file, slot } => self.plan_sync(file, slot)?,
            Plan::Prefetch(ahead) => Work::Prefetch(ahead),
        };
        let expires = expires(self);
        if expires != 0 {
            self.books.deadlines.insert(place, expires);
        }
        let exact = request.flags().contains(Flags::EXACT);
        let served = &mut self.books.queues[place.queue as usize];
        let may_start = self.books.waiting == 0
            && self.books.shares.has_room(&served.share)
            && self.books.shares.has_bytes();
        let record = served.admit(place.slot, work, exact, expires);
        // The usual case, with the record at hand.
        if may_start
            && work.starts_at_once()
            && let Some(operation) = work.operation()
            && let Ok(token) = self.transport.push(operation, place.to_user())
        {
            record.token = Some(token);
            self.books.counters.operations += 1;
            self.books.shares.take(&mut served.share, work.bytes());
        } else {
            self.begin(place, work);
        }
        Ok(())
    }

    fn plan_sync(&self, file: u32, slot: FileSlot) -> Result<Work, Errno> {
        self.books.check_lost(file)?;
        let entry = self.books.files.entries.at(file).ok_or(Errno::EBADF)?;
        Ok(Work::Sync {
            file,
            slot,
            identity: entry.identity,
            writes: 0,
        })
    }
}
