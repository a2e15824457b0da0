//! Outcomes: what a request ends with, and what its end lets go on.

use vyre_ioq::Errno;
use vyre_uring::Transport;

use super::Engine;
use super::backlog::Line;
use super::engine_state::Books;
use super::request_state::Work;
use super::slot_id::Place;

impl<T: Transport> Engine<T> {
    /// Writes outcomes into their slots, and publishes the counters of the queues that changed.
    #[inline]
    pub(super) fn tell(&mut self) {
        for (queue, shared) in self.books.queues.iter_mut().zip(&self.shared.queues) {
            queue.deliver();
            if std::mem::take(&mut queue.has_counted) {
                shared.publish(&queue.counters());
            }
        }
    }
}

impl Books {
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

    #[inline]
    pub(super) fn finish_due_fences(&mut self, queue: u32) {
        while let Some(slot) = self.queues[queue as usize].order.due() {
            self.finish(Place { queue, slot }, Ok(0));
        }
    }

    /// Counts a request out of the entries that it used.
    #[inline]
    pub(super) fn release(&mut self, file: Option<u32>, buffer: Option<u32>) {
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
