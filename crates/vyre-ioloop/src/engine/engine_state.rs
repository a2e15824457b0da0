//! What the host knows: tables, queues and the requests in its hands. It decides; the engine around
//! it has the transport.

use super::backlog::Line;
use super::deadlines::heap::Deadlines;
use super::queue_state::Served;
use super::reclaim::Live;
use super::request_state::Record;
use super::shares::Shares;
use super::slot_id::Place;
use crate::buffer_table::BufferTable;
use crate::counters::LoopCounters;
use crate::file_table::FileTable;

#[derive(Debug)]
pub(super) struct Books {
    pub(super) files: FileTable,
    pub(super) buffers: BufferTable,
    pub(super) queues: Vec<Served>,
    /// Number of requests of all queues that wait for room in the transport: the `Ready` lines.
    pub(super) waiting: u32,
    pub(super) shares: Shares,
    /// Flushes that succeeded while others of the file were in flight, so that their success is not
    /// certain yet.
    pub(super) unsettled: Vec<Place>,
    pub(super) counters: LoopCounters,
    pub(super) deadlines: Deadlines,
    /// Number of requests that are cancelled and whose operation is in flight.
    pub(super) cancelling: u32,
    pub(super) live: Live,
}

impl Books {
    #[inline]
    pub(super) fn record_mut(&mut self, place: Place) -> Option<&mut Record> {
        self.queues
            .get_mut(place.queue as usize)?
            .records
            .get_mut(place.slot as usize)
    }

    /// Makes a request wait for room in the transport.
    pub(super) fn enqueue(&mut self, place: Place) {
        let lines = &mut self.queues[place.queue as usize].lines;
        lines.push(Line::Ready, place.slot);
        self.waiting += 1;
    }

    /// Makes a request wait as [`enqueue`](Self::enqueue) does, before the others of its queue.
    pub(super) fn enqueue_first(&mut self, place: Place) {
        let lines = &mut self.queues[place.queue as usize].lines;
        lines.push_front(Line::Ready, place.slot);
        self.waiting += 1;
    }

    /// Takes out the request of a queue that has waited longest for room.
    pub(super) fn dequeue(&mut self, queue: usize) -> Option<u32> {
        let slot = self.queues[queue].lines.pop(Line::Ready)?;
        self.waiting -= 1;
        Some(slot)
    }

    /// Returns a request of a queue that the transport does not have and that waits for no write.
    pub(super) fn first_in_line(&self, queue: u32) -> Option<u32> {
        let lines = &self.queues[queue as usize].lines;
        lines
            .first(Line::Ready)
            .or_else(|| lines.first(Line::Parked))
    }

    /// Takes a request that is about to end early out of its line.
    pub(super) fn leave_line(&mut self, place: Place) {
        let served = &mut self.queues[place.queue as usize];
        let line = served.lines.remove(place.slot);
        match line {
            Some(Line::Ready) => self.waiting -= 1,
            // All are counted out when they end.
            Some(Line::Parked) => served.share.count_unbounded(),
            Some(Line::Unasked | Line::Asked) => self.cancelling -= 1,
            Some(Line::Writes) | None => {}
        }
        self.leave_ring(place, line);
    }

    /// Requests in flight that `on` holds for.
    pub(super) fn users(queues: &[Served], on: impl Fn(&Record) -> bool) -> u32 {
        let records = queues.iter().flat_map(|queue| &queue.records);
        records.filter(|&record| on(record)).count() as u32
    }
}
