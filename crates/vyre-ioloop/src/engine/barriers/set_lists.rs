//! Lists of fence sets: circular and doubly linked, so that every step takes constant time, whichever
//! list a set is in.

#[derive(Clone, Copy, Debug)]
struct Link {
    before: u32,
    after: u32,
}

/// A few lists, each of sets by their numbers. A set is in one list, or free.
#[derive(Debug)]
pub(super) struct SetLists {
    /// The links of the sets, followed by one link for each list, which closes its circle.
    links: Box<[Link]>,
    /// Number of sets.
    sets: u32,
}

impl SetLists {
    /// Returns empty lists. All sets are free.
    pub(super) fn new(sets: u32, lists: u32) -> Self {
        // One more list: that of the free sets.
        let alone = |number| Link {
            before: number,
            after: number,
        };
        let mut all = Self {
            links: (0..=sets + lists).map(alone).collect(),
            sets,
        };
        for set in 0..sets {
            all.give_back(set);
        }
        all
    }

    /// Returns the number of the link that closes a list.
    #[inline]
    const fn end(&self, list: u32) -> u32 {
        self.sets + 1 + list
    }

    #[inline]
    fn link(&mut self, before: u32, after: u32) {
        self.links[before as usize].after = after;
        self.links[after as usize].before = before;
    }

    #[inline]
    fn insert_before(&mut self, end: u32, set: u32) {
        let last = self.links[end as usize].before;
        self.link(last, set);
        self.link(set, end);
    }

    /// Takes out a free set.
    ///
    /// # Panics
    /// If there is none.
    #[inline]
    pub(super) fn take_free(&mut self) -> u32 {
        let free = self.links[self.sets as usize].before;
        assert!(free < self.sets, "more sets than slots");
        self.remove(free);
        free
    }

    /// Makes a set free that is in no list.
    #[inline]
    pub(super) fn give_back(&mut self, set: u32) {
        self.insert_before(self.sets, set);
    }

    /// Adds a set, which is in no list, at the end of a list.
    #[inline]
    pub(super) fn push(&mut self, list: u32, set: u32) {
        self.insert_before(self.end(list), set);
    }

    /// Removes a set from the list that it is in.
    #[inline]
    pub(super) fn remove(&mut self, set: u32) {
        let Link { before, after } = self.links[set as usize];
        self.link(before, after);
    }

    #[inline]
    pub(super) fn is_empty(&self, list: u32) -> bool {
        let end = self.end(list);
        self.links[end as usize].after == end
    }

    /// Returns the first set of a list.
    #[inline]
    pub(super) fn first(&self, list: u32) -> Option<u32> {
        self.after(list, self.end(list))
    }

    /// Returns the set after another one of the list.
    #[inline]
    pub(super) fn after(&self, list: u32, set: u32) -> Option<u32> {
        let after = self.links[set as usize].after;
        (after != self.end(list)).then_some(after)
    }

    /// Returns the list that a set is in, if it is the only set there.
    pub(super) fn list_if_alone(&self, set: u32) -> Option<u32> {
        let Link { before, after } = self.links[set as usize];
        if before != after {
            return None;
        }
        after.checked_sub(self.end(0))
    }

    /// Moves all sets of a list to the end of another.
    #[inline]
    pub(super) fn append(&mut self, from: u32, to: u32) {
        if self.is_empty(from) {
            return;
        }
        let (from, to) = (self.end(from), self.end(to));
        let Link {
            before: last,
            after: first,
        } = self.links[from as usize];
        let before = self.links[to as usize].before;
        self.link(before, first);
        self.link(last, to);
        self.link(from, from);
    }
}
