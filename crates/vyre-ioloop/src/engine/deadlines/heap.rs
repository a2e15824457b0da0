//! A heap of deadlines by queue and slot.

use crate::engine::slot_id::SlotId;

/// The position of a slot that is not in the heap.
const NOWHERE: u32 = u32::MAX;

/// The requests with a deadline, the earliest first. Adding one, removing one and popping the earliest
/// take time logarithmic in their number. Only a new queue allocates.
#[derive(Debug)]
pub(crate) struct Deadlines {
    /// The binary heap of times and requests.
    heap: Vec<(u64, SlotId)>,
    /// The position of each slot of each queue in the heap.
    positions: Vec<Box<[u32]>>,
}

impl Deadlines {
    /// Creates a heap for queues with these numbers of slots.
    pub(crate) fn new(slots: impl Iterator<Item = u32>) -> Self {
        let positions: Vec<Box<[u32]>> = slots
            .map(|slots| vec![NOWHERE; slots as usize].into())
            .collect();
        let all = positions.iter().map(|slots| slots.len()).sum();
        Self {
            heap: Vec::with_capacity(all),
            positions,
        }
    }

    /// Sets the number of slots of a queue, which may be a new one. It must have no request in the heap.
    pub(crate) fn set_slots(&mut self, queue: usize, slots: u32) {
        if queue >= self.positions.len() {
            self.positions.resize_with(queue + 1, Box::default);
        }
        debug_assert!(
            self.positions[queue].iter().all(|&at| at == NOWHERE),
            "a request of the queue is there"
        );
        self.positions[queue] = vec![NOWHERE; slots as usize].into();
        let all: usize = self.positions.iter().map(|slots| slots.len()).sum();
        self.heap.reserve(all.saturating_sub(self.heap.len()));
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Returns the time at which the earliest is due.
    pub(crate) fn first(&self) -> Option<u64> {
        self.heap.first().map(|&(expires, _)| expires)
    }

    /// Adds a request that is not there yet.
    pub(crate) fn insert(&mut self, id: SlotId, expires: u64) {
        debug_assert_eq!(*self.position(id), NOWHERE, "there already");
        self.heap.push((expires, id));
        self.rise(self.heap.len() - 1);
    }

    /// Removes a request, if it is in the heap.
    pub(crate) fn remove(&mut self, id: SlotId) {
        let at = std::mem::replace(self.position(id), NOWHERE) as usize;
        if at >= self.heap.len() {
            return;
        }
        self.heap.swap_remove(at);
        if at < self.heap.len() {
            let at = self.rise(at);
            self.sink(at);
        }
    }

    /// Pops the earliest request, if it is due.
    pub(crate) fn pop_due(&mut self, now: u64) -> Option<SlotId> {
        let &(expires, id) = self.heap.first()?;
        (expires <= now).then(|| {
            self.remove(id);
            id
        })
    }

    /// Removes all requests.
    pub(crate) fn clear(&mut self) {
        while let Some((_, id)) = self.heap.pop() {
            *self.position(id) = NOWHERE;
        }
    }

    fn position(&mut self, id: SlotId) -> &mut u32 {
        &mut self.positions[id.queue as usize][id.slot as usize]
    }

    fn note_position(&mut self, at: usize) {
        let (_, id) = self.heap[at];
        *self.position(id) = at as u32;
    }

    /// Moves an entry towards the front, as far as it is earlier. Returns its new position.
    fn rise(&mut self, mut at: usize) -> usize {
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.heap[parent].0 <= self.heap[at].0 {
                break;
            }
            self.heap.swap(parent, at);
            self.note_position(at);
            at = parent;
        }
        self.note_position(at);
        at
    }

    /// Moves an entry towards the back, as far as it is later.
    fn sink(&mut self, mut at: usize) {
        loop {
            let children = 2 * at + 1..(2 * at + 3).min(self.heap.len());
            let Some(child) = children.min_by_key(|&child| self.heap[child].0) else {
                break;
            };
            if self.heap[at].0 <= self.heap[child].0 {
                break;
            }
            self.heap.swap(at, child);
            self.note_position(at);
            at = child;
        }
        self.note_position(at);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_heap_is_what_a_sorted_map_would_be(
            steps in prop::collection::vec((0..3_u8, 0..2_u32, 0..6_u32, 1..20_u64), 0..300),
        ) {
            let mut deadlines = Deadlines::new([6, 6].into_iter());
            let mut model = BTreeMap::new();
            for (step, queue, slot, time) in steps {
                let id = SlotId { queue, slot };
                match step {
                    0 if !model.contains_key(&(queue, slot)) => {
                        deadlines.insert(id, time);
                        model.insert((queue, slot), time);
                    }
                    1 => {
                        deadlines.remove(id);
                        model.remove(&(queue, slot));
                    }
                    _ => {
                        let due = deadlines.pop_due(time);
                        let earliest = model.values().copied().min();
                        prop_assert_eq!(due.is_some(), earliest.is_some_and(|first| first <= time));
                        if let Some(due) = due {
                            prop_assert_eq!(model.remove(&(due.queue, due.slot)), earliest);
                        }
                    }
                }
                prop_assert_eq!(deadlines.first(), model.values().copied().min());
                prop_assert_eq!(deadlines.is_empty(), model.is_empty());
            }
        }
    }
}
