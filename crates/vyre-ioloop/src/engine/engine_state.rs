//! The state of an engine apart from its transport: tables, queues and claimed requests.

use super::abandoned::Abandoned;
use super::deadlines::heap::Deadlines;
use super::queue_state::QueueState;
use super::reclaim::Reclaimable;
use super::request_state::RequestState;
use super::shares::Shares;
use super::slot_id::SlotId;
use super::slot_lists::SlotList;
use crate::buffer_table::BufferTable;
use crate::counters::LoopCounters;
use crate::file_table::FileTable;
use crate::queue_id::QueueId;

#[derive(Debug)]
pub(super) struct EngineState {
    pub(super) files: FileTable,
    pub(super) buffers: BufferTable,
    pub(super) queues: Vec<QueueState>,
    /// The operations of removed queues that the transport still holds.
    pub(super) abandoned: Vec<Abandoned>,
    /// The number of requests that wait for room in the transport, in the backlogs of all queues that are not held
    /// back by their limits.
    pub(super) backlogged: u32,
    /// The number of queues that are held back by their limits.
    pub(super) held: u32,
    pub(super) shares: Shares,
    /// The flushes that succeeded while others of the same file were in flight, so that their success
    /// is not certain yet.
    pub(super) unconfirmed: Vec<SlotId>,
    pub(super) counters: LoopCounters,
    pub(super) deadlines: Deadlines,
    /// The number of cancelled requests whose operation is in flight.
    pub(super) cancelling: u32,
    pub(super) reclaimable: Reclaimable,
}

impl EngineState {
    /// Returns the place of a queue.
    pub(super) fn place_of(&self, queue: QueueId) -> Option<usize> {
        let served = |it: &QueueState| !it.is_vacant() && it.id == queue;
        self.queues.iter().position(served)
    }

    /// Returns the number of operations of removed queues that the transport holds.
    pub(super) fn abandoned_operations(&self) -> u32 {
        let operations = self.abandoned.iter().map(|it| it.requests.len() as u32);
        operations.sum()
    }

    /// Divides the transport among the queues that there are now.
    pub(super) fn divide(&mut self, capacity: u32) {
        let served = self.queues.iter().filter(|queue| !queue.is_vacant());
        let shares = served.map(|queue| &queue.share);
        let abandoned = self.abandoned.iter().map(|it| &it.share);
        self.shares.divide(capacity, shares.chain(abandoned));
    }

    #[inline]
    pub(super) fn request_mut(&mut self, id: SlotId) -> Option<&mut RequestState> {
        self.queues
            .get_mut(id.queue as usize)?
            .requests
            .get_mut(id.slot as usize)
    }

    /// Makes a request wait for room in the transport.
    pub(super) fn enqueue(&mut self, id: SlotId) {
        let queue = &mut self.queues[id.queue as usize];
        queue.lists.push(SlotList::Backlog, id.slot);
        self.backlogged += u32::from(!queue.is_held());
    }

    /// Makes a request wait as [`enqueue`](Self::enqueue) does, but ahead of the others of its queue.
    pub(super) fn enqueue_first(&mut self, id: SlotId) {
        let queue = &mut self.queues[id.queue as usize];
        queue.lists.push_front(SlotList::Backlog, id.slot);
        self.backlogged += u32::from(!queue.is_held());
    }

    /// Removes the request of a queue that has waited longest for room.
    pub(super) fn dequeue(&mut self, queue: usize) -> Option<u32> {
        let queue = &mut self.queues[queue];
        let slot = queue.lists.pop(SlotList::Backlog)?;
        self.backlogged -= u32::from(!queue.is_held());
        Some(slot)
    }

    /// Returns a request of a queue that the transport does not hold and that waits for no write.
    pub(super) fn first_waiting(&self, queue: u32) -> Option<u32> {
        let lists = &self.queues[queue as usize].lists;
        lists
            .first(SlotList::Backlog)
            .or_else(|| lists.first(SlotList::Parked))
    }

    /// Removes a request that is about to end early from its list.
    pub(super) fn leave_list(&mut self, id: SlotId) {
        let queue = &mut self.queues[id.queue as usize];
        let line = queue.lists.remove(id.slot);
        match line {
            Some(SlotList::Backlog) => self.backlogged -= u32::from(!queue.is_held()),
            // All are counted out when they end.
            Some(SlotList::Parked) => queue.share.count_unbounded(),
            Some(SlotList::CancelPending | SlotList::CancelAsked) => self.cancelling -= 1,
            Some(SlotList::AwaitsWrites) | None => {}
        }
        self.leave_sync_group(id, line);
    }

    /// Ends the cancellation of a request whose operation is in flight, and its deadline.
    pub(super) fn stop_cancelling(&mut self, id: SlotId) {
        self.deadlines.remove(id);
        let lists = &mut self.queues[id.queue as usize].lists;
        if let Some(SlotList::CancelPending | SlotList::CancelAsked) = lists.list_of(id.slot) {
            lists.remove(id.slot);
            self.cancelling -= 1;
        }
    }

    /// Returns the number of requests in flight for which `on` holds.
    pub(super) fn users(
        queues: &[QueueState],
        abandoned: &[Abandoned],
        on: impl Fn(&RequestState) -> bool,
    ) -> u32 {
        let requests = queues.iter().flat_map(|queue| &queue.requests);
        let requests = requests.chain(abandoned.iter().flat_map(|it| &it.requests));
        requests.filter(|&request| on(request)).count() as u32
    }
}
