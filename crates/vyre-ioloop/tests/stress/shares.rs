//! Checks that every queue can use its share of the transport once nothing is in flight.

use vyre_ioq::Request;

use super::{Named, Stress};

impl Stress {
    /// Checks for each queue in turn that it has its whole share of the transport.
    pub(super) fn check_shares(&mut self) {
        let queues = self.memory.len() as u32;
        // Half of the entries are reserved, the same number for each queue, but one each at least where
        // there are as many; and a queue may borrow all others. See `engine/shares.rs`.
        let (reserve, share) = if queues == 1 {
            (self.capacity, self.capacity)
        } else {
            let one_each = u32::from(self.capacity >= queues);
            let reserve = (self.capacity / queues / 2).max(one_each);
            (reserve, self.capacity - reserve * (queues - 1))
        };
        let (file, pipe) = (self.files[0], *self.files.last().expect("remains"));
        let ahead = Request::prefetch(file.handle, 0, 1);
        let read = Request::read(pipe.handle, 0, 1).into_buffer(self.pool, 0);
        for queue in 0..self.memory.len() {
            self.fill(queue, &ahead, file, share);
            // On unbounded files, half of its reserve, and at least one.
            self.fill(queue, &read, pipe, (reserve / 2).max(1));
        }
    }

    /// Publishes a request in every slot of a queue: `share` of them are in flight at once, and all of
    /// them are carried out in time.
    fn fill(&mut self, queue: usize, request: &Request, file: Named, share: u32) {
        for slot in 0..self.slots {
            self.publish(queue, slot, request, file);
        }
        self.step();
        let in_flight = self.control.state().flights.len() as u32;
        let about = format!("queue {queue} of {}", self.memory.len());
        assert_eq!(in_flight, share.min(self.slots), "{about}: {request:?}");
        self.drain();
    }
}
