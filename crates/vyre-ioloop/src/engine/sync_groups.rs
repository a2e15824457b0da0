//! SYNCs that share a flush: those of one file that were claimed in one pass.
//!
//! One of them leads: it waits for the writes before it and is flushed, and its outcome is that of
//! all. If it ends early, by its deadline, the next one leads. They form a ring, so that any of them
//! can leave in constant time.

use vyre_ioq::Errno;

use super::backlog::Line;
use super::engine_state::Books;
use super::queue_state::Served;
use super::request_state::Work;
use super::slot_id::Place;

#[derive(Clone, Copy, Debug)]
struct Node {
    before: u32,
    after: u32,
    follows: bool,
}

/// Rings of one queue's slots. Every slot is in one, by itself at first.
#[derive(Debug)]
pub(crate) struct Rings(Box<[Node]>);

impl Rings {
    pub(crate) fn new(slots: u32) -> Self {
        let alone = |slot| Node {
            before: slot,
            after: slot,
            follows: false,
        };
        Self((0..slots).map(alone).collect())
    }

    /// Puts a slot, which is by itself, at the end of a leader's ring.
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

    /// Takes a slot out of its ring. Returns the slot after it, if that is to lead now.
    fn leave(&mut self, slot: u32) -> Option<u32> {
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

impl Served {
    /// Makes a SYNC that was just admitted follow another of its pass. Returns whether there is
    /// one.
    pub(super) fn follow_sync(&mut self, slot: u32, file: u32) -> bool {
        if let Some(leader) = self.leader
            && matches!(self.records[leader as usize].work, Work::Sync { file: of, .. } if of == file)
        {
            self.rings.join(leader, slot);
            return true;
        }
        self.leader = Some(slot);
        false
    }
}

impl Books {
    /// Takes a SYNC that is about to end early out of its ring. If it leads, the next one takes its
    /// place in `line`, where it waited.
    pub(super) fn leave_ring(&mut self, place: Place, line: Option<Line>) {
        let served = &mut self.queues[place.queue as usize];
        let Some(next) = served.rings.leave(place.slot) else {
            return;
        };
        let successor = Place {
            slot: next,
            ..place
        };
        if line != Some(Line::Writes) {
            self.enqueue(successor);
            return;
        }
        let waits_for = match served.records[place.slot as usize].work {
            Work::Sync { writes, .. } => writes,
            _ => 0,
        };
        if let Work::Sync { writes, .. } = &mut served.records[next as usize].work {
            *writes = waits_for;
        }
        served.lines.push(Line::Writes, next);
    }

    /// Ends the SYNCs that shared a flush which has ended, or has them flushed again if that flush
    /// was cancelled.
    #[cold]
    pub(super) fn sync_finished(
        &mut self,
        place: Place,
        result: Result<u32, Errno>,
        cancelled: bool,
    ) {
        if cancelled && result.is_err() {
            self.leave_ring(place, None);
            return;
        }
        let rings = |books: &mut Self, slot| books.queues[place.queue as usize].rings.leave(slot);
        let mut next = rings(self, place.slot);
        while let Some(slot) = next {
            next = rings(self, slot);
            self.finish(Place { slot, ..place }, result);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_leaves_the_next_one_leads() {
        let mut rings = Rings::new(8);
        for slot in [2, 7, 4, 5] {
            rings.join(1, slot);
        }
        assert_eq!(rings.leave(7), None, "it followed");
        assert_eq!(rings.leave(1), Some(2));
        assert_eq!(rings.leave(5), None);
        assert_eq!(rings.leave(2), Some(4));
        assert_eq!(rings.leave(4), None, "nobody is left");
        assert_eq!(rings.leave(6), None);
    }
}
