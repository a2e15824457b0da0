//! Which requests a fence waits for: epochs of one queue, pure bookkeeping.
//!
//! Requests are admitted to the newest epoch. A fence closes it: later requests belong to the
//! next, so a fence delays nobody who came later. A fence is due when its own epoch and every
//! older one have nothing outstanding; epochs end in order, and so do fences.

use std::collections::VecDeque;

/// No slot.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Epoch {
    outstanding: u32,
    /// First fence that closed the epoch; the others follow in `Order::next`.
    fences: u32,
}

impl Epoch {
    const OPEN: Self = Self {
        outstanding: 0,
        fences: NONE,
    };
}

/// The order of one queue's requests. Never allocates after its creation: an epoch that has not
/// ended holds at least one fence, so there are at most as many as slots, and the open one.
#[derive(Debug)]
pub(crate) struct Order {
    epochs: VecDeque<Epoch>,
    /// Number of the oldest epoch.
    oldest: u64,
    /// For each slot that holds a fence, the next fence of its epoch.
    next: Box<[u32]>,
}

impl Order {
    pub(crate) fn new(slots: u32) -> Self {
        let mut epochs = VecDeque::with_capacity(slots as usize + 2);
        epochs.push_back(Epoch::OPEN);
        Self {
            epochs,
            oldest: 0,
            next: vec![NONE; slots as usize].into(),
        }
    }

    /// Admits a request; the epoch to complete it with.
    #[inline]
    pub(crate) fn admit(&mut self) -> u64 {
        if let Some(open) = self.epochs.back_mut() {
            open.outstanding += 1;
        }
        self.oldest + self.epochs.len() as u64 - 1
    }

    /// Admits a fence; its epoch.
    pub(crate) fn fence(&mut self, slot: u32) -> u64 {
        if let Some(open) = self.epochs.back_mut() {
            self.next[slot as usize] = open.fences;
            open.fences = slot;
        }
        self.oldest + self.epochs.len() as u64 - 1
    }

    /// Ends a pass: what comes next belongs to a new epoch, if this one has a fence.
    #[inline]
    pub(crate) fn close(&mut self) {
        if self.epochs.back().is_some_and(|open| open.fences != NONE) {
            self.epochs.push_back(Epoch::OPEN);
        }
    }

    /// Counts a request out of its epoch.
    #[inline]
    pub(crate) fn complete(&mut self, epoch: u64) {
        if let Some(epoch) = self.epoch_mut(epoch) {
            epoch.outstanding -= 1;
        }
    }

    /// Takes a fence that will not wait any longer out of its epoch.
    pub(crate) fn forget_fence(&mut self, epoch: u64, slot: u32) {
        let after = std::mem::replace(&mut self.next[slot as usize], NONE);
        let Some(first) = self.epoch_mut(epoch).map(|epoch| &mut epoch.fences) else {
            return;
        };
        if *first == slot {
            *first = after;
            return;
        }
        let mut fence = *first;
        while fence != NONE {
            let next = &mut self.next[fence as usize];
            if *next == slot {
                *next = after;
                return;
            }
            fence = *next;
        }
    }

    /// The next fence that is due, taken out.
    #[inline]
    pub(crate) fn due(&mut self) -> Option<u32> {
        loop {
            let closed = self.epochs.len() > 1;
            let front = self.epochs.front_mut()?;
            if front.outstanding != 0 {
                return None;
            }
            if front.fences != NONE {
                let slot = front.fences;
                front.fences = std::mem::replace(&mut self.next[slot as usize], NONE);
                return Some(slot);
            }
            if !closed {
                return None;
            }
            self.epochs.pop_front();
            self.oldest += 1;
        }
    }

    #[inline]
    fn epoch_mut(&mut self, epoch: u64) -> Option<&mut Epoch> {
        let index = epoch.checked_sub(self.oldest)?;
        self.epochs.get_mut(usize::try_from(index).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_due(order: &mut Order) -> Vec<u32> {
        std::iter::from_fn(|| order.due()).collect()
    }

    #[test]
    fn a_fence_waits_for_what_came_before_and_for_nothing_later() {
        let mut order = Order::new(8);
        let early = order.admit();
        order.fence(1);
        order.close();
        let late = order.admit();
        assert_eq!(all_due(&mut order), []);
        order.complete(early);
        assert_eq!(
            all_due(&mut order),
            [1],
            "the late one is still outstanding"
        );
        order.complete(late);
        assert_eq!(all_due(&mut order), []);
    }

    #[test]
    fn fences_end_in_order() {
        let mut order = Order::new(8);
        let first = order.admit();
        order.fence(1);
        order.close();
        let second = order.admit();
        order.fence(2);
        order.close();
        order.complete(second);
        assert_eq!(all_due(&mut order), [], "the older epoch holds both");
        order.complete(first);
        assert_eq!(all_due(&mut order), [1, 2]);
    }

    #[test]
    fn a_forgotten_fence_leaves_the_others_in_place() {
        for forgotten in [1, 2, 3] {
            let mut order = Order::new(8);
            let epoch = order.admit();
            for slot in [1, 2, 3] {
                order.fence(slot);
            }
            order.close();
            order.forget_fence(epoch, forgotten);
            order.complete(epoch);
            let mut due = all_due(&mut order);
            due.sort_unstable();
            let rest: Vec<u32> = [1, 2, 3].into_iter().filter(|&s| s != forgotten).collect();
            assert_eq!(due, rest);
        }
    }

    #[test]
    fn epochs_do_not_pile_up() {
        let mut order = Order::new(4);
        let capacity = order.epochs.capacity();
        for _ in 0..1000 {
            for slot in 0..3 {
                order.admit();
                order.fence(slot);
                order.close();
            }
            for epoch in order.oldest..order.oldest + 3 {
                order.complete(epoch);
            }
            assert_eq!(all_due(&mut order), [0, 1, 2]);
            assert_eq!(order.epochs.len(), 1);
        }
        assert_eq!(order.epochs.capacity(), capacity, "never grew");
    }
}
