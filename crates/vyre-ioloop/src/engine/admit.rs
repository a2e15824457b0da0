//! Admission: from published slots to requests that the engine works on.

use std::ops::Range;

use vyre_ioq::{Errno, Flags, Op, Request};
use vyre_uring::{FileSlot, Transport};

use super::served::{ClaimedSync, PutBy};
use super::{Engine, Place};
use crate::record::Work;
use crate::resolve::{Plan, resolve};

impl<T: Transport> Engine<T> {
    /// Claims what is published in one queue and takes it in, or refuses it. How many.
    ///
    /// A fence or a sync has to wait until the slots that were looked at before it are looked at once
    /// more: a request published before it, but after the sweep came by, is among them, and visible by
    /// then. A pass looks once more for those that it found itself. What that second look finds is owed
    /// one of its own, and is kept for the next pass, whose first look is at every slot and does for
    /// all that was kept. There may be new ones in each look, so a pass that began with kept ones leaves
    /// it at that: two looks at most, and one for each fence where fences never end.
    #[inline]
    pub(super) fn claim(&mut self, queue: usize) -> u32 {
        let mut before = self.books.queues[queue].put_by_so_far();
        let kept_any = !before.is_none();
        let (mut claimed, last_ordered) = self.look(queue, 0..u32::MAX, &mut before);
        if !kept_any && let Some(slot) = last_ordered {
            before = self.books.queues[queue].put_by_so_far();
            // What comes after `slot` was looked at since.
            let (more, kept) = self.look(queue, 0..slot, &mut PutBy::default());
            claimed += more;
            if kept.is_some() {
                // But not since these were found, and the next look may answer them on its way.
                claimed += self.look(queue, slot..u32::MAX, &mut PutBy::default()).0;
            }
        }
        if claimed == 0 && !kept_any {
            return 0;
        }
        self.admit_ordered(queue, before);
        let served = &mut self.books.queues[queue];
        served.counters.claimed += u64::from(claimed);
        // A pass that claimed nothing can have answered fences that were kept.
        served.has_counted = true;
        served.deliver();
        claimed
    }

    /// Looks at slots, takes in what is published there, and puts fences and syncs by. How many were
    /// claimed, and the slot of the last fence or sync. Counts out of `before` the fences that it could
    /// answer on the way, for which it has to be a look at every slot.
    #[inline]
    fn look(&mut self, queue: usize, slots: Range<u32>, before: &mut PutBy) -> (u32, Option<u32>) {
        let (mut claimed, mut last_ordered) = (0, None);
        let mut groups = self.books.queues[queue].host.groups(slots);
        while let Some(group) = groups.next() {
            let through = group.end;
            let slots = self.books.queues[queue].host.claim(group);
            claimed += slots.len() as u32;
            let (mut fences, mut last_sync) = (slots.none(), None);
            for slot in slots {
                if self.draining {
                    // Here, and not later: what was claimed before the drain is finished.
                    self.refuse(queue, slot, Errno::ECANCELED);
                    continue;
                }
                let served = &mut self.books.queues[queue];
                let image = served.host.image(slot);
                // Decoded here, where the words are in registers; and for a fence apart, which then
                // makes no request of them.
                if Op::from_word(image.op) == Some(Op::Fence) {
                    match Request::decode(&image).map(|fence| fence.deadline) {
                        Ok(deadline) => {
                            let expires = self.expiry(deadline);
                            let served = &mut self.books.queues[queue];
                            served.fence_expires[slot as usize] = expires;
                            fences.insert(slot);
                        }
                        Err(error) => self.refuse(queue, slot, error.errno()),
                    }
                    continue;
                }
                // One by one, not by one match with a guard, which would have the request in memory.
                let request = match Request::decode(&image) {
                    Ok(request) => request,
                    Err(error) => {
                        self.refuse(queue, slot, error.errno());
                        continue;
                    }
                };
                if request.op.is_ordered() {
                    self.keep_sync(queue, slot, request);
                    last_sync = Some(slot);
                    continue;
                }
                let deadline = request.deadline;
                self.take_in(queue, slot, &request, move |engine| engine.expiry(deadline));
            }
            let last = fences.clone().last().max(last_sync);
            if last.is_some() {
                last_ordered = last;
                let served = &mut self.books.queues[queue];
                if fences.len() > 0 {
                    served.claimed_fences.push(fences);
                }
                served.host.renew(&mut groups);
            }
            if before.fences > 0 {
                self.books.queues[queue].answer_fences_before(through, before);
            }
        }
        (claimed, last_ordered)
    }

    /// Keeps a claimed SYNC until the requests before it are admitted.
    #[cold]
    fn keep_sync(&mut self, queue: usize, slot: u32, request: Request) {
        let expires = self.expiry(request.deadline);
        self.books.queues[queue].claimed_syncs.push(ClaimedSync {
            slot,
            request,
            expires,
        });
    }

    #[cold]
    fn refuse(&mut self, queue: usize, slot: u32, errno: Errno) {
        self.books.queues[queue].answer(slot, Err(errno));
    }

    /// Takes in the syncs and fences of `before`, now that everything before them is known: the fences
    /// last, which wait for everything else.
    ///
    /// Where a sync was found after them, none goes ahead: a fence may have to wait for that sync, which
    /// cannot be taken in yet. This comes to an end, since each look that finds one more keeps more slots
    /// than the one before. Fences do not wait for each other, so one found late holds up nobody.
    #[inline]
    fn admit_ordered(&mut self, queue: usize, before: PutBy) {
        let served = &mut self.books.queues[queue];
        if served.claimed_syncs.len() > before.syncs {
            return;
        }
        if before.syncs > 0 {
            self.admit_syncs(queue);
        }
        if before.fences == 0 {
            return;
        }
        let served = &mut self.books.queues[queue];
        if served.order.is_clear() {
            served.answer_fences(before.fences);
        } else {
            self.admit_fences(queue, before.fences);
        }
    }

    #[cold]
    fn admit_syncs(&mut self, queue: usize) {
        let files = &self.books.files.entries;
        let served = &mut self.books.queues[queue];
        served.list_writes(|file| files.at(file).map(|entry| entry.identity));
        let mut syncs = std::mem::take(&mut served.claimed_syncs);
        // Those of one file after one another: they share a flush. Among themselves they have no order.
        syncs.sort_unstable_by_key(|sync| (sync.request.destination, sync.slot));
        served.leader = None;
        for sync in syncs.drain(..) {
            self.take_in(queue, sync.slot, &sync.request, |_| sync.expires);
        }
        self.books.queues[queue].claimed_syncs = syncs;
    }

    /// Takes in the first `count` sets of fences, which have to wait.
    fn admit_fences(&mut self, queue: usize, count: usize) {
        let mut fences = std::mem::take(&mut self.books.queues[queue].claimed_fences);
        for slot in fences.drain(..count).flatten() {
            let served = &mut self.books.queues[queue];
            let expires = served.fence_expires[slot as usize];
            served.admit(slot, Work::Fence, false, expires);
            if expires != 0 {
                let queue = queue as u32;
                self.books.deadlines.insert(Place { queue, slot }, expires);
            }
        }
        let served = &mut self.books.queues[queue];
        served.claimed_fences = fences;
        served.order.close();
        self.books.finish_due_fences(queue as u32);
    }

    #[inline(always)]
    fn take_in(
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
        let exact = request.flags.contains(Flags::EXACT);
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
