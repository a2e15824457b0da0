//! Barriers (FENCE and SYNC): admitted once all that came before them is claimed.

use vyre_uring::Transport;

use super::Engine;
use super::queue_state::PutBy;
use super::request_state::Work;
use super::slot_id::Place;

impl<T: Transport> Engine<T> {
    /// Takes in the syncs and fences of `before`, now that everything before them is known: the fences
    /// last, which wait for everything else.
    ///
    /// Where a sync was found after them, none goes ahead: a fence may have to wait for that sync, which
    /// cannot be taken in yet. This comes to an end, since each look that finds one more keeps more slots
    /// than the one before. Fences do not wait for each other, so one found late holds up nobody.
    #[inline]
    pub(super) fn admit_ordered(&mut self, queue: usize, before: PutBy) {
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
        syncs.sort_unstable_by_key(|sync| (sync.request.file(), sync.slot));
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
}
