//! Backlog: the lists in which the requests of one queue wait.
//!
//! A slot is in one list at most. The lists are doubly linked by slot index, so that every step
//! takes constant time and none allocates.

/// The index that means "no slot".
const NONE: u32 = u32::MAX;

/// The event that a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotList {
    /// Room in the transport.
    Backlog,
    /// The end of another request of the queue on an unbounded file, because the limit is reached.
    Parked,
    /// The end of WRITEs to the file. The request is a SYNC.
    AwaitsWrites,
    /// Room in the transport for the cancellation of the request's operation.
    CancelPending,
    /// The end of the operation, whose cancellation was sent.
    CancelAsked,
}

const LISTS: usize = 5;

#[derive(Clone, Copy, Debug)]
struct Node {
    before: u32,
    after: u32,
    list: Option<SlotList>,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    first: u32,
    last: u32,
}

const EMPTY: Ends = Ends {
    first: NONE,
    last: NONE,
};

/// The lists of one queue.
#[derive(Debug)]
pub(crate) struct SlotLists {
    nodes: Box<[Node]>,
    ends: [Ends; LISTS],
    lengths: [u32; LISTS],
}

impl SlotLists {
    pub(crate) fn new(slots: u32) -> Self {
        let alone = Node {
            before: NONE,
            after: NONE,
            list: None,
        };
        Self {
            nodes: vec![alone; slots as usize].into(),
            ends: [EMPTY; LISTS],
            lengths: [0; LISTS],
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self, list: SlotList) -> bool {
        self.ends[list as usize].first == NONE
    }

    /// Returns the number of slots in a list.
    pub(crate) fn len(&self, list: SlotList) -> u32 {
        self.lengths[list as usize]
    }

    pub(crate) fn first(&self, list: SlotList) -> Option<u32> {
        let first = self.ends[list as usize].first;
        (first != NONE).then_some(first)
    }

    /// Returns the slot behind one in its list.
    pub(crate) fn after(&self, slot: u32) -> Option<u32> {
        let after = self.nodes[slot as usize].after;
        (after != NONE).then_some(after)
    }

    /// Returns the list that a slot is in.
    #[inline]
    pub(crate) fn list_of(&self, slot: u32) -> Option<SlotList> {
        self.nodes[slot as usize].list
    }

    /// Puts a slot, which is in no list, at the end of a list.
    pub(crate) fn push(&mut self, list: SlotList, slot: u32) {
        debug_assert_eq!(self.list_of(slot), None, "in two lists");
        self.lengths[list as usize] += 1;
        let last = std::mem::replace(&mut self.ends[list as usize].last, slot);
        self.nodes[slot as usize] = Node {
            before: last,
            after: NONE,
            list: Some(list),
        };
        match self.nodes.get_mut(last as usize) {
            Some(node) => node.after = slot,
            None => self.ends[list as usize].first = slot,
        }
    }

    /// Puts a slot, which is in no list, at the front of a list.
    pub(crate) fn push_front(&mut self, list: SlotList, slot: u32) {
        debug_assert_eq!(self.list_of(slot), None, "in two lists");
        self.lengths[list as usize] += 1;
        let first = std::mem::replace(&mut self.ends[list as usize].first, slot);
        self.nodes[slot as usize] = Node {
            before: NONE,
            after: first,
            list: Some(list),
        };
        match self.nodes.get_mut(first as usize) {
            Some(node) => node.before = slot,
            None => self.ends[list as usize].last = slot,
        }
    }

    /// Takes the first slot out of a list.
    pub(crate) fn pop(&mut self, list: SlotList) -> Option<u32> {
        let first = self.first(list)?;
        self.remove(first);
        Some(first)
    }

    /// Takes a slot out of its list, and returns that list.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<SlotList> {
        let Node {
            before,
            after,
            list,
        } = self.nodes[slot as usize];
        let list = list?;
        self.lengths[list as usize] -= 1;
        self.nodes[slot as usize].list = None;
        match self.nodes.get_mut(before as usize) {
            Some(node) => node.after = after,
            None => self.ends[list as usize].first = after,
        }
        match self.nodes.get_mut(after as usize) {
            Some(node) => node.before = before,
            None => self.ends[list as usize].last = before,
        }
        Some(list)
    }

    /// Empties all lists.
    pub(crate) fn clear(&mut self) {
        for node in &mut self.nodes {
            node.list = None;
        }
        self.ends = [EMPTY; LISTS];
        self.lengths = [0; LISTS];
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const SLOTS: u32 = 8;

    /// Returns the slots of a list, walked both ways.
    fn walk(lists: &SlotLists, list: SlotList) -> Vec<u32> {
        let ends = lists.ends[list as usize];
        let go = |from: u32, step: fn(&Node) -> u32| {
            std::iter::successors((from != NONE).then_some(from), |&slot| {
                Some(step(&lists.nodes[slot as usize])).filter(|&slot| slot != NONE)
            })
            .collect::<Vec<_>>()
        };
        let there = go(ends.first, |node| node.after);
        let mut back = go(ends.last, |node| node.before);
        back.reverse();
        assert_eq!(there, back);
        assert_eq!(lists.len(list) as usize, there.len());
        there
    }

    proptest! {
        #[test]
        fn lists_are_what_queues_with_removal_would_be(
            steps in prop::collection::vec((0..4_u8, prop::bool::ANY, 0..SLOTS), 0..200),
        ) {
            let mut lists = SlotLists::new(SLOTS);
            let mut model = [VecDeque::new(), VecDeque::new()];
            for (step, second, slot) in steps {
                let which = usize::from(second);
                let list = if second { SlotList::Parked } else { SlotList::Backlog };
                let held = model.iter().any(|list| list.contains(&slot));
                match step {
                    0 if !held => {
                        lists.push(list, slot);
                        model[which].push_back(slot);
                    }
                    1 if !held => {
                        lists.push_front(list, slot);
                        model[which].push_front(slot);
                    }
                    2 => prop_assert_eq!(lists.pop(list), model[which].pop_front()),
                    _ => {
                        prop_assert_eq!(lists.remove(slot).is_some(), held);
                        model.iter_mut().for_each(|list| list.retain(|&other| other != slot));
                    }
                }
                prop_assert_eq!(walk(&lists, SlotList::Backlog), Vec::from(model[0].clone()));
                prop_assert_eq!(walk(&lists, SlotList::Parked), Vec::from(model[1].clone()));
            }
        }
    }
}
