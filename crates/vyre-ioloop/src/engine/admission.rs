//! Admission: a claimed request is checked and started, or rejected.

use vyre_ioq::{Errno, Flags, Request};
use vyre_uring::{FileSlot, Transport};

use super::Engine;
use super::checks::{Plan, resolve};
use super::request_state::Admitted;
use super::slot_id::SlotId;

impl<T: Transport> Engine<T> {
    #[cold]
    pub(super) fn reject(&mut self, queue: usize, slot: u32, errno: Errno) {
        self.state.queues[queue].store_outcome(slot, Err(errno));
    }

    #[inline(always)]
    pub(super) fn admit_or_reject(
        &mut self,
        queue: usize,
        slot: u32,
        request: &Request,
        expires: impl FnOnce(&Self) -> u64,
    ) {
        let id = SlotId {
            queue: queue as u32,
            slot,
        };
        if let Err(errno) = self.admit(id, request, expires) {
            self.state.queues[queue].store_outcome(slot, Err(errno));
        }
    }

    /// Checks a claimed request and starts it. An error becomes the request's outcome and has no other
    /// effect. `expires` is computed late, so that it need not be saved across the checks.
    #[inline(always)]
    fn admit(
        &mut self,
        id: SlotId,
        request: &Request,
        expires: impl FnOnce(&Self) -> u64,
    ) -> Result<(), Errno> {
        let state = &self.state;
        let asking = state.queues[id.queue as usize].id;
        let plan = resolve(&state.files, &state.buffers, asking, request)?;
        let exact = request.flags().contains(Flags::EXACT);
        let admitted = match plan {
            Plan::Read(transfer) => {
                if self.bundle(id, transfer, exact, request.deadline()) {
                    return Ok(());
                }
                Admitted::Read(transfer)
            }
            Plan::Write(transfer) => {
                let durable = transfer.durable;
                if durable {
                    self.state.check_lost(transfer.file)?;
                }
                Admitted::Write { transfer, durable }
            }
            Plan::Sync { file, slot } => self.plan_sync(file, slot)?,
            Plan::Prefetch(ahead) => Admitted::Prefetch(ahead),
            Plan::Map(extent) => Admitted::Map(extent),
        };
        let expires = expires(self);
        self.start(id, admitted, exact, expires);
        Ok(())
    }

    /// Records an admitted request and starts it, or makes it wait.
    #[inline(always)]
    pub(super) fn start(&mut self, id: SlotId, admitted: Admitted, exact: bool, expires: u64) {
        if expires != 0 {
            self.state.deadlines.insert(id, expires);
        }
        let queue = &mut self.state.queues[id.queue as usize];
        let may_start = self.state.backlogged == 0
            && queue.limiter.is_none()
            && self.state.shares.has_room(&queue.share)
            && self.state.shares.has_bytes();
        queue.admit(id.slot, admitted, exact, expires);
        // The usual case.
        if may_start
            && admitted.starts_at_once()
            && let Some(operation) = admitted.operation()
        {
            if let Err(error) = self.push_operation(id, operation, admitted.bytes()) {
                self.not_pushed(id, error);
            }
        } else {
            self.submit_or_wait(id, admitted);
        }
    }

    fn plan_sync(&self, file: u32, slot: FileSlot) -> Result<Admitted, Errno> {
        self.state.check_lost(file)?;
        let entry = self.state.files.entries.at(file).ok_or(Errno::EBADF)?;
        Ok(Admitted::Sync {
            file,
            slot,
            identity: entry.identity,
            writes: 0,
        })
    }
}
