//! Which requests a fence waits for: epochs of one queue, pure bookkeeping.
//!
//! Requests are admitted to the newest epoch. A fence closes it: later requests belong to the
//! next, so a fence delays nobody who came later. A fence is due when its own epoch and every
//! older one have nothing outstanding; epochs end in order, and so do fences.

/// No slot, or no epoch.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Epoch {
    outstanding: u32,
    /// First fence that closed the epoch; the others follow in `Order::next`.
    fences: u32,
    older: u32,
    /// The next newer epoch; of a free place, the next free one.
    newer: u32,
}

impl Epoch {
    const OPEN: Self = Self {
        outstanding: 0,
        fences: NONE,
        older: NONE,
        newer: NONE,
    };
}

/// The order of one queue's requests. Never allocates after its creation: an epoch that is closed
/// holds at least one request or fence, so there are at most as many as slots, and the open one.
#[derive(Debug)]
pub(crate) struct Order {
    /// In the order of `Epoch::newer`, from `oldest` to `open`; and the free places from `free`.
    epochs: Box<[Epoch]>,
    oldest: u32,
    open: u32,
    free: u32,
    /// Fences that are not due yet.
    fences: u32,
    /// Next fence of its epoch, and the one before, for each slot that holds a fence.
    next: Box<[u32]>,
    before: Box<[u32]>,
}

impl Order {
    pub(crate) fn new(slots: u32) -> Self {
        let mut epochs: Box<[Epoch]> = vec![Epoch::OPEN; slots as usize + 1].into();
        for (place, epoch) in (1..=slots).zip(&mut epochs[1..]) {
            epoch.newer = if place < slots { place + 1 } else { NONE };
        }
        Self {
            epochs,
            oldest: 0,
            open: 0,
            free: if slots > 0 { 1 } else { NONE },
            fences: 0,
            next: vec![NONE; slots as usize].into(),
            before: vec![NONE; slots as usize].into(),
        }
    }

    /// Admits a request; the epoch to complete it with.
    #[inline]
    pub(crate) fn admit(&mut self) -> u32 {
        self.epochs[self.open as usize].outstanding += 1;
        self.open
    }

    /// Whether nothing is outstanding: a fence that came now would be due at once.
    #[inline]
    pub(crate) fn is_clear(&self) -> bool {
        self.oldest == self.open && self.epochs[self.open as usize].outstanding == 0
    }

    /// Admits a fence; its epoch.
    pub(crate) fn fence(&mut self, slot: u32) -> u32 {
        let open = &mut self.epochs[self.open as usize];
        let after = std::mem::replace(&mut open.fences, slot);
        self.next[slot as usize] = after;
        self.before[slot as usize] = NONE;
        if let Some(before) = self.before.get_mut(after as usize) {
            *before = slot;
        }
        self.fences += 1;
        self.open
    }

    /// Ends a pass: what comes next belongs to a new epoch, if this one has a fence.
    #[inline]
    pub(crate) fn close(&mut self) {
        if self.epochs[self.open as usize].fences != NONE && self.free != NONE {
            self.open_next();
        }
    }

    fn open_next(&mut self) {
        let (closed, opened) = (self.open, self.free);
        let epoch = &mut self.epochs[opened as usize];
        self.free = epoch.newer;
        *epoch = Epoch {
            older: closed,
            ..Epoch::OPEN
        };
        self.epochs[closed as usize].newer = opened;
        self.open = opened;
    }

    /// Counts a request out of its epoch.
    #[inline]
    pub(crate) fn complete(&mut self, epoch: u32) {
        let outstanding = &mut self.epochs[epoch as usize].outstanding;
        *outstanding -= 1;
        if *outstanding == 0 && epoch != self.open {
            self.end_if_empty(epoch);
        }
    }

    /// Takes a fence that will not wait any longer out of its epoch.
    pub(crate) fn forget_fence(&mut self, epoch: u32, slot: u32) {
        self.fences -= 1;
        let (before, after) = (self.before[slot as usize], self.next[slot as usize]);
        if let Some(of_after) = self.before.get_mut(after as usize) {
            *of_after = before;
        }
        match self.next.get_mut(before as usize) {
            Some(of_before) => *of_before = after,
            None => {
                self.epochs[epoch as usize].fences = after;
                self.end_if_empty(epoch);
            }
        }
    }

    /// The next fence that is due, taken out.
    #[inline]
    pub(crate) fn due(&mut self) -> Option<u32> {
        if self.fences == 0 {
            return None;
        }
        self.first_due()
    }

    fn first_due(&mut self) -> Option<u32> {
        let oldest = &mut self.epochs[self.oldest as usize];
        if oldest.outstanding != 0 || oldest.fences == NONE {
            return None;
        }
        let slot = oldest.fences;
        let after = self.next[slot as usize];
        oldest.fences = after;
        if let Some(before) = self.before.get_mut(after as usize) {
            *before = NONE;
        }
        self.fences -= 1;
        self.end_if_empty(self.oldest);
        Some(slot)
    }

    /// Takes a closed epoch that nothing belongs to any more out of the order.
    #[inline]
    fn end_if_empty(&mut self, place: u32) {
        let Epoch {
            outstanding,
            fences,
            older,
            newer,
        } = self.epochs[place as usize];
        if outstanding != 0 || fences != NONE || place == self.open {
            return;
        }
        // A closed epoch has a newer one.
        self.epochs[newer as usize].older = older;
        if older == NONE {
            self.oldest = newer;
        } else {
            self.epochs[older as usize].newer = newer;
        }
        self.epochs[place as usize].newer = self.free;
        self.free = place;
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

    /// Epochs in the order, walked both ways.
    fn epochs(order: &Order) -> usize {
        let walk = |from: u32, step: fn(&Epoch) -> u32| {
            std::iter::successors(Some(from), |&place| {
                Some(step(&order.epochs[place as usize])).filter(|&place| place != NONE)
            })
            .count()
        };
        let count = walk(order.oldest, |epoch| epoch.newer);
        assert_eq!(count, walk(order.open, |epoch| epoch.older));
        count
    }

    #[test]
    fn epochs_do_not_pile_up() {
        let mut order = Order::new(4);
        for _ in 0..1000 {
            let admitted = [0, 1, 2].map(|slot| {
                let epoch = order.admit();
                order.fence(slot);
                order.close();
                epoch
            });
            for epoch in admitted {
                order.complete(epoch);
            }
            assert_eq!(all_due(&mut order), [0, 1, 2]);
            assert_eq!(epochs(&order), 1);
        }
    }

    #[test]
    fn epochs_without_a_fence_end_wherever_they_are() {
        let mut order = Order::new(4);
        let for_ever = order.admit();
        order.fence(3);
        order.close();
        for _ in 0..1000 {
            let early = order.admit();
            let epoch = order.fence(0);
            order.close();
            let late = order.admit();
            order.forget_fence(epoch, 0);
            order.complete(early);
            order.complete(late);
            assert_eq!(epochs(&order), 2);
        }
        order.complete(for_ever);
        assert_eq!(all_due(&mut order), [3]);
        assert_eq!(epochs(&order), 1);
    }
}
