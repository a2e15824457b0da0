//! What the host knows: tables, queues and the requests in its hands. It decides; the engine around
//! it has the transport.

use vyre_ioq::Errno;
use vyre_uring::Completion;

use super::Place;
use super::backlog::Line;
use super::deadlines::Deadlines;
use super::live::Live;
use super::served::Served;
use super::shares::Shares;
use crate::counters::LoopCounters;
use crate::record::{Flush, Next, Record, Work};
use crate::tables::{BufferTable, FileTable};

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
    /// Takes in how an operation ended.
    #[inline]
    pub(super) fn completed(&mut self, completion: &Completion) {
        let place = Place::from_user(completion.user);
        let Some(queue) = self.queues.get_mut(place.queue as usize) else {
            self.counters.stray += 1;
            return;
        };
        let record = queue.records.get_mut(place.slot as usize);
        let Some(record) = record.filter(|record| record.token == Some(completion.token)) else {
            self.counters.stray += 1;
            return;
        };
        record.token = None;
        self.shares.give_back(&mut queue.share);
        if let Some(moved) = record.completes_with(completion.result) {
            self.finish(place, Ok(moved));
            return;
        }
        let mut result = completion.result;
        if record.work.is_flush() {
            match self.flush_ended(place, result) {
                Some(ended) => result = ended,
                None => return,
            }
        }
        let record = &mut self.queues[place.queue as usize].records[place.slot as usize];
        let align = record
            .file()
            .and_then(|file| self.files.entries.at(file))
            .and_then(|entry| entry.align.as_ref())
            .map_or(1, |align| align.offset);
        match record.advance(result, align) {
            Next::Finish(result) if record.work.is_flush() => self.finish_flush(place, result),
            Next::Finish(result) => self.finish(place, result),
            Next::Resume => {
                record.flush = Flush::None;
                self.counters.resumed += 1;
                self.enqueue(place);
            }
            Next::Retry => {
                record.flush = Flush::None;
                self.counters.retried += 1;
                self.enqueue(place);
            }
        }
    }

    /// Releases an operation that ended after the end of service: nothing is answered.
    pub(super) fn let_go(&mut self, completion: &Completion) {
        let place = Place::from_user(completion.user);
        let record = self.record_mut(place);
        let Some(record) = record.filter(|record| record.token == Some(completion.token)) else {
            self.counters.stray += 1;
            return;
        };
        let (file, buffer) = (record.file(), record.buffer());
        *record = Record::IDLE;
        self.release(file, buffer);
    }

    #[inline]
    pub(super) fn record_mut(&mut self, place: Place) -> Option<&mut Record> {
        self.queues
            .get_mut(place.queue as usize)?
            .records
            .get_mut(place.slot as usize)
    }

    /// Gives a request its outcome and lets go of everything it held.
    #[inline]
    pub(super) fn finish(&mut self, place: Place, result: Result<u32, Errno>) {
        let Some(queue) = self.queues.get_mut(place.queue as usize) else {
            return;
        };
        let Some(record) = queue.records.get_mut(place.slot as usize) else {
            return;
        };
        let moved = u64::from(result.unwrap_or(0));
        let (mut is_fence, mut is_write, mut is_sync) = (false, false, false);
        let unbounded = record.work.is_unbounded();
        match record.work {
            Work::None => return,
            Work::Fence => is_fence = true,
            Work::Read(_) => queue.counters.bytes_read += moved,
            Work::Write { .. } => {
                is_write = true;
                queue.counters.bytes_written += moved;
            }
            Work::Sync { .. } => is_sync = true,
            Work::Prefetch(_) => {}
        }
        let (file, buffer) = (record.file(), record.buffer());
        let (epoch, sequence) = (record.epoch, record.sequence);
        let (timed, cancelled) = (record.expires != 0, record.cancelled.is_some());
        // Nothing else: the next admission writes it all.
        record.work = Work::None;
        record.expires = 0;
        queue.answer(place.slot, result);
        if timed {
            self.deadlines.remove(place);
        }
        if cancelled && queue.lines.remove(place.slot).is_some() {
            self.cancelling -= 1;
        }
        if is_fence {
            // No fence makes another due; and thousands may be, too many to nest in one another.
            return;
        }
        queue.order.complete(epoch);
        if unbounded {
            self.unbounded_finished(place.queue);
        }
        if is_write {
            self.write_finished(place, file, sequence);
        }
        self.release(file, buffer);
        if is_sync {
            self.sync_finished(place, result, cancelled);
        }
        self.finish_due_fences(place.queue);
    }

    /// Tells the devices what was decided.
    #[inline]
    pub(super) fn deliver(&mut self) {
        for queue in &mut self.queues {
            queue.deliver();
        }
    }

    /// Lets SYNCs go on that waited for a write.
    #[inline]
    fn write_finished(&mut self, place: Place, file: Option<u32>, sequence: u64) {
        let identity = file
            .and_then(|file| self.files.entries.at(file))
            .map(|entry| entry.identity);
        let waiting = &mut self.waiting;
        self.queues[place.queue as usize].write_finished(
            sequence,
            |awaited| identity == Some(awaited),
            |lines, slot| {
                lines.push(Line::Ready, slot);
                *waiting += 1;
            },
        );
    }

    /// Lets the next parked request of a queue proceed after one on an unbounded file has ended.
    #[cold]
    fn unbounded_finished(&mut self, queue: u32) {
        let served = &mut self.queues[queue as usize];
        served.share.give_back_unbounded();
        if !served.lines.is_empty(Line::Parked)
            && self.shares.take_unbounded(&mut served.share)
            && let Some(slot) = served.lines.pop(Line::Parked)
        {
            self.enqueue(Place { queue, slot });
        }
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

    #[inline]
    pub(super) fn finish_due_fences(&mut self, queue: u32) {
        while let Some(slot) = self.queues[queue as usize].order.due() {
            self.finish(Place { queue, slot }, Ok(0));
        }
    }

    /// Requests in flight that `on` holds for.
    pub(super) fn users(queues: &[Served], on: impl Fn(&Record) -> bool) -> u32 {
        let records = queues.iter().flat_map(|queue| &queue.records);
        records.filter(|&record| on(record)).count() as u32
    }

    /// Counts a request out of the entries that it used.
    #[inline]
    fn release(&mut self, file: Option<u32>, buffer: Option<u32>) {
        if let Some(file) = file
            && self.files.entries.release(file)
        {
            self.live.files.push(file);
        }
        if let Some(buffer) = buffer
            && self.buffers.entries.release(buffer)
        {
            self.live.buffers.push(buffer);
        }
    }
}
