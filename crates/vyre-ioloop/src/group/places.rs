//! The queues of a group: the loop of each, and its memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::QueueError;
use crate::new_queue::check_memory;
use crate::queue_id::QueueId;

#[derive(Debug)]
struct Place {
    index: usize,
    /// The addresses of the queue.
    addresses: Range<usize>,
}

/// The queues of a group. No lock is held while a loop is asked for anything.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Numbered>);

#[derive(Debug, Default)]
struct Numbered {
    next: u64,
    queues: BTreeMap<QueueId, Place>,
}

impl Numbered {
    fn insert(&mut self, index: usize, addresses: Range<usize>) -> QueueId {
        let id = QueueId::from_raw(self.next);
        self.next += 1;
        self.queues.insert(id, Place { index, addresses });
        id
    }
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, Numbered> {
        // Every change is whole before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a queue whose memory no other queue of the group has. It goes to the given loop, or else to that with the
    /// fewest queues of those for which `serves` holds. Returns its number and its loop.
    pub(super) fn reserve(
        &self,
        chosen: Option<usize>,
        loops: usize,
        serves: impl Fn(usize) -> bool,
        addresses: Range<usize>,
    ) -> Result<(QueueId, usize), QueueError> {
        let mut places = self.lock();
        let memory = places.queues.iter();
        check_memory(
            &addresses,
            memory.map(|(&id, place)| (id, place.addresses.clone())),
        )?;
        let mut queues = vec![0; loops];
        for place in places.queues.values() {
            queues[place.index] += 1;
        }
        let serving = (0..loops).filter(|&index| serves(index));
        let index = chosen.or_else(|| serving.min_by_key(|&index| queues[index]));
        let index = index.ok_or(QueueError::Ended)?;
        Ok((places.insert(index, addresses), index))
    }

    pub(super) fn remove(&self, queue: QueueId) {
        self.lock().queues.remove(&queue);
    }

    /// Returns the loop of a queue.
    pub(super) fn loop_of(&self, queue: QueueId) -> Option<usize> {
        self.lock().queues.get(&queue).map(|place| place.index)
    }
}
