//! Lists of operations, linked through their entries.

use super::work::Entry;

/// Ends a list.
pub(super) const NONE: u32 = u32::MAX;

/// A list of entries. An entry is in one list at most.
#[derive(Debug)]
pub(super) struct List {
    first: u32,
    last: u32,
}

impl Default for List {
    fn default() -> Self {
        Self {
            first: NONE,
            last: NONE,
        }
    }
}

impl List {
    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    pub(super) fn push_back(&mut self, index: u32, entries: &mut [Entry]) {
        let entry = &mut entries[index as usize];
        (entry.previous, entry.next) = (self.last, NONE);
        match self.last {
            NONE => self.first = index,
            last => entries[last as usize].next = index,
        }
        self.last = index;
    }

    pub(super) fn push_front(&mut self, index: u32, entries: &mut [Entry]) {
        let entry = &mut entries[index as usize];
        (entry.previous, entry.next) = (NONE, self.first);
        match self.first {
            NONE => self.last = index,
            first => entries[first as usize].previous = index,
        }
        self.first = index;
    }

    pub(super) fn pop(&mut self, entries: &mut [Entry]) -> Option<u32> {
        let index = self.first()?;
        self.unlink(index, entries);
        Some(index)
    }

    /// Removes an entry, which must be in this list.
    pub(super) fn unlink(&mut self, index: u32, entries: &mut [Entry]) {
        let entry = &entries[index as usize];
        let (previous, next) = (entry.previous, entry.next);
        match previous {
            NONE => self.first = next,
            previous => entries[previous as usize].next = next,
        }
        match next {
            NONE => self.last = previous,
            next => entries[next as usize].previous = previous,
        }
    }
}
