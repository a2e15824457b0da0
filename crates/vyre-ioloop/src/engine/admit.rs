//! From published slots to requests in the host's hands; and deadlines, which begin there.

use vyre_ioq::{Errno, Flags, Request};
use vyre_uring::Transport;

use super::{Engine, Place};
use crate::record::Work;
use crate::resolve::{Plan, resolve};

/// Looks at a queue in one pass, however many fences turn up.
const MAX_LOOKS: u32 = 4;

impl<T: Transport> Engine<T> {
    /// Claims what is published in one queue and takes it in, or refuses it. How many.
    ///
    /// Where that includes a fence or a sync, the slots that were looked at before it are looked at
    /// once more: a request published before the fence, but after the sweep came by, is among them,
    /// and visible by now. A fence or a sync that turns up in such a second look is owed one of its
    /// own. A device may publish one for each look; so after a few, all of them are kept for the next
    /// pass, whose first look is at every slot. None is taken in before the others: a fence may have
    /// to wait for a sync that was found after it. Each pass that does so keeps more slots than the
    /// one before it, so it comes to an end.
    #[inline]
    pub(super) fn claim(&mut self, queue: usize) -> u32 {
        let mut claimed = 0;
        let mut end = u32::MAX;
        let mut kept = false;
        for _ in 0..MAX_LOOKS {
            let mut last_ordered = None;
            kept = false;
            let mut groups = self.books.queues[queue].host.groups(0..end);
            while let Some(group) = groups.next() {
                let mut any_ordered = false;
                for slot in self.books.queues[queue].host.claim(group) {
                    claimed += 1;
                    // Decoded here, where the words are in registers.
                    let image = self.books.queues[queue].host.image(slot);
                    match Request::decode(&image) {
                        // Here, and not later: what was claimed before the drain is finished.
                        _ if self.draining => self.refuse(queue, slot, Errno::ECANCELED),
                        Ok(request) if request.op.is_ordered() => {
                            self.books.queues[queue].put_by(slot, &request);
                            kept = true;
                            any_ordered = true;
                            last_ordered = Some(slot);
                        }
                        Ok(request) => self.take_in(queue, slot, &request),
                        Err(error) => self.refuse(queue, slot, error.errno()),
                    }
                }
                if any_ordered {
                    self.books.queues[queue].host.renew(&mut groups);
                }
            }
            let Some(slot) = last_ordered else { break };
            // What comes after `slot` was looked at since, if this look went to the end.
            end = if end == u32::MAX { slot } else { u32::MAX };
        }
        if claimed == 0 && !self.books.queues[queue].keeps_any() {
            return 0;
        }
        if !kept {
            self.admit_ordered(queue);
        }
        self.books.queues[queue].counters.claimed += u64::from(claimed);
        self.books.queues[queue].deliver();
        if claimed == 0 {
            // The pass may count as an idle one, and yet have answered.
            self.publish_counters();
        }
        claimed
    }

    #[cold]
    fn refuse(&mut self, queue: usize, slot: u32, errno: Errno) {
        self.books.queues[queue].answer(slot, Err(errno));
    }

    /// Takes in the syncs and fences of a pass, now that everything before them is known: the fences
    /// last, which wait for everything else of the pass.
    #[inline]
    fn admit_ordered(&mut self, queue: usize) {
        if !self.books.queues[queue].claimed_syncs.is_empty() {
            self.admit_syncs(queue);
        }
        let served = &mut self.books.queues[queue];
        if served.claimed_fences.is_empty() {
            return;
        }
        if served.order.is_clear() {
            served.answer_fences();
        } else {
            self.admit_fences(queue);
        }
    }

    #[cold]
    fn admit_syncs(&mut self, queue: usize) {
        let files = &self.books.files.entries;
        let served = &mut self.books.queues[queue];
        served.list_writes(|file| files.at(file).map(|entry| entry.identity));
        let mut syncs = std::mem::take(&mut served.claimed_syncs);
        for (slot, request) in syncs.drain(..) {
            self.take_in(queue, slot, &request);
        }
        self.books.queues[queue].claimed_syncs = syncs;
    }

    /// Takes in fences that have to wait.
    fn admit_fences(&mut self, queue: usize) {
        let mut fences = std::mem::take(&mut self.books.queues[queue].claimed_fences);
        for (slot, deadline) in fences.drain(..) {
            let expires = self.expiry(deadline);
            self.books.queues[queue].admit(slot, Work::Fence, false, expires);
        }
        let served = &mut self.books.queues[queue];
        served.claimed_fences = fences;
        served.order.close();
        self.books.finish_due_fences(queue as u32);
    }

    #[inline(always)]
    fn take_in(&mut self, queue: usize, slot: u32, request: &Request) {
        let place = Place {
            queue: queue as u32,
            slot,
        };
        if let Err(errno) = self.admit(place, request) {
            self.books.queues[queue].answer(slot, Err(errno));
        }
    }

    /// Checks a claimed request and starts on it. An error is the device's outcome, and leaves
    /// nothing behind.
    #[inline(always)]
    fn admit(&mut self, place: Place, request: &Request) -> Result<(), Errno> {
        let plan = resolve(&self.books.files, &self.books.buffers, request)?;
        let work = match plan {
            Plan::Read(transfer) => Work::Read(transfer),
            Plan::Write(transfer) => Work::Write {
                transfer,
                durable: request.flags.contains(Flags::DURABLE),
            },
            Plan::Sync { file } => self.plan_sync(file)?,
            Plan::Prefetch { file, offset, len } => Work::Prefetch { file, offset, len },
        };
        let expires = self.expiry(request.deadline);
        let exact = request.flags.contains(Flags::EXACT);
        let served = &mut self.books.queues[place.queue as usize];
        let record = served.admit(place.slot, work, exact, expires);
        // The usual case, with the record at hand.
        if work.starts_at_once()
            && self.books.backlog.is_empty()
            && let Some(operation) = work.operation()
            && let Ok(token) = self.transport.push(operation, place.to_user())
        {
            record.token = Some(token);
            self.books.counters.operations += 1;
        } else {
            self.begin(place, work);
        }
        Ok(())
    }

    /// Sends an admitted request on its way, whatever that takes.
    #[cold]
    fn begin(&mut self, place: Place, work: Work) {
        match work {
            Work::Read(transfer) | Work::Write { transfer, .. } if transfer.len == 0 => {
                self.books.finish(place, Ok(0));
                return;
            }
            Work::Sync { .. } if self.books.queues[place.queue as usize].hold_sync(place.slot) => {
                return;
            }
            _ => {}
        }
        // First come, first served: nobody overtakes those who wait for room.
        if !self.books.backlog.is_empty() || !self.push(place) {
            self.books.counters.deferred += 1;
            self.books.backlog.push_back(place);
        }
    }

    fn plan_sync(&self, file: u32) -> Result<Work, Errno> {
        let entry = self.books.files.entries.at(file).ok_or(Errno::EBADF)?;
        Ok(Work::Sync {
            file,
            identity: entry.identity,
            writes: 0,
        })
    }

    /// When a request claimed now expires, on the engine's clock, which is read only for those
    /// that do.
    #[inline]
    fn expiry(&mut self, deadline: u32) -> u64 {
        if deadline == 0 {
            return 0;
        }
        let expires = self.now() + u64::from(deadline);
        self.books.timed += 1;
        self.next_expiry = self.next_expiry.min(expires);
        expires
    }

    /// Microseconds since the engine was made, and never zero.
    fn now(&self) -> u64 {
        self.started.elapsed().as_micros() as u64 + 1
    }

    /// Cancels requests whose deadline has passed; how many. One whose operation is in flight is
    /// completed only when the kernel has let go of its buffer.
    #[cold]
    pub(super) fn expire(&mut self) -> u32 {
        let now = self.now();
        if now < self.next_expiry {
            return 0;
        }
        let mut expired = 0;
        self.next_expiry = u64::MAX;
        for queue in 0..self.books.queues.len() as u32 {
            for slot in 0..self.books.queues[queue as usize].records.len() as u32 {
                let record = &self.books.queues[queue as usize].records[slot as usize];
                if record.expires == 0 || record.cancelled.is_some() {
                    continue;
                }
                if record.expires > now {
                    self.next_expiry = self.next_expiry.min(record.expires);
                } else if self.cancel(Place { queue, slot }, Errno::ETIMEDOUT) {
                    self.books.counters.timed_out += 1;
                    expired += 1;
                } else {
                    // No room to ask the kernel: again in the next pass.
                    self.next_expiry = now;
                }
            }
        }
        expired
    }

    /// Ends a request early with `reason`, now or as soon as the kernel lets go of its buffer.
    /// False if the kernel could not be asked yet.
    pub(super) fn cancel(&mut self, place: Place, reason: Errno) -> bool {
        let served = &mut self.books.queues[place.queue as usize];
        let record = &mut served.records[place.slot as usize];
        if let Some(token) = record.token {
            if !self.transport.cancel(token) {
                return false;
            }
            record.cancelled = Some(reason);
            return true;
        }
        let (work, epoch) = (record.work, record.epoch);
        match work {
            Work::None => return true,
            Work::Fence => served.order.forget_fence(epoch, place.slot),
            Work::Sync { .. } if served.forget_sync(place.slot) => {}
            _ => self.books.backlog.retain(|waiting| *waiting != place),
        }
        self.books.finish(place, Err(reason));
        true
    }
}
