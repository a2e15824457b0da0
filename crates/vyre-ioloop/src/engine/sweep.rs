//! The sweep: claims what is published.

use std::ops::Range;

use vyre_ioq::{Claim, Errno, Op, Request};
use vyre_uring::Transport;

use super::Engine;
use super::queue_state::{ClaimedSync, PutBy};

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
        let mut groups = self.books.queues[queue].host.sweep(slots);
        while let Some(group) = groups.next() {
            let through = group.end;
            let mut claims = self.books.queues[queue].host.claim(group);
            claimed += claims.slots().len();
            let (mut fences, mut last_sync) = (claims.slots().to_empty(), None);
            while let Some(Claim { slot, image, .. }) =
                self.books.queues[queue].host.next_claim(&mut claims)
            {
                if self.draining {
                    // Here, and not later: what was claimed before the drain is finished.
                    self.refuse(queue, slot, Errno::ECANCELED);
                    continue;
                }
                // Decoded here, where the words are in registers; and for a fence apart, which then
                // makes no request of them.
                if Op::from_word(image.op) == Some(Op::Fence) {
                    match Request::decode(&image).map(|fence| fence.deadline()) {
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
                if request.op().is_barrier() {
                    self.keep_sync(queue, slot, request);
                    last_sync = Some(slot);
                    continue;
                }
                let deadline = request.deadline();
                self.take_in(queue, slot, &request, move |engine| engine.expiry(deadline));
            }
            let last = fences.last().max(last_sync);
            if last.is_some() {
                last_ordered = last;
                let served = &mut self.books.queues[queue];
                if !fences.is_empty() {
                    served.claimed_fences.push(fences);
                }
                served.host.refresh(&mut groups);
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
        let expires = self.expiry(request.deadline());
        self.books.queues[queue].claimed_syncs.push(ClaimedSync {
            slot,
            request,
            expires,
        });
    }
}
