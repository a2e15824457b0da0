//! SYNCs that share a flush: those of one file that were claimed in one pass.
//!
//! One of them leads: it waits for the earlier writes and starts the flush, and all of them get its
//! outcome. If it ends early, at its deadline, the next one leads. They form a ring, so that any of
//! them can leave in constant time.

#[derive(Clone, Copy, Debug)]
struct Node {
    before: u32,
    after: u32,
    follows: bool,
}

/// The groups of one queue's SYNCs. Every slot is in one, by itself at first.
#[derive(Debug)]
pub(crate) struct SyncGroups(Box<[Node]>);

impl SyncGroups {
    pub(crate) fn new(slots: u32) -> Self {
        let alone = |slot| Node {
            before: slot,
            after: slot,
            follows: false,
        };
        Self((0..slots).map(alone).collect())
    }

    /// Adds a slot, which is by itself, at the end of a leader's ring.
    pub(crate) fn join(&mut self, leader: u32, slot: u32) {
        let last = self.0[leader as usize].before;
        self.0[slot as usize] = Node {
            before: last,
            after: leader,
            follows: true,
        };
        self.0[last as usize].after = slot;
        self.0[leader as usize].before = slot;
    }

    /// Removes a slot from its ring. Returns the next slot, if that now leads.
    pub(crate) fn leave(&mut self, slot: u32) -> Option<u32> {
        let Node {
            before,
            after,
            follows,
        } = self.0[slot as usize];
        self.0[before as usize].after = after;
        self.0[after as usize].before = before;
        self.0[slot as usize] = Node {
            before: slot,
            after: slot,
            follows: false,
        };
        if follows || after == slot {
            return None;
        }
        self.0[after as usize].follows = false;
        Some(after)
    }

    /// Puts every slot in a ring by itself again.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.0.len() as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_leaves_the_next_one_leads() {
        let mut sync_groups = SyncGroups::new(8);
        for slot in [2, 7, 4, 5] {
            sync_groups.join(1, slot);
        }
        assert_eq!(sync_groups.leave(7), None, "it followed");
        assert_eq!(sync_groups.leave(1), Some(2));
        assert_eq!(sync_groups.leave(5), None);
        assert_eq!(sync_groups.leave(2), Some(4));
        assert_eq!(sync_groups.leave(4), None, "nobody is left");
        assert_eq!(sync_groups.leave(6), None);
    }
}
