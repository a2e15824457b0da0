//! The operations in flight, by generation-checked token.

use crate::operation::Token;

/// Ends the free list.
const NONE: u32 = u32::MAX;

/// Stands for "no buffer" in [`Entry::buffer`].
pub(crate) const NO_BUFFER: u32 = u32::MAX;

/// What is remembered of one operation in flight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) user: u64,
    pub(crate) file: u32,
    pub(crate) buffer: u32,
    /// Odd while the entry is taken, even while it is free: a token of a free entry matches nothing.
    generation: u32,
    next_free: u32,
    /// A request to cancel it is on its way.
    pub(crate) cancelling: bool,
    /// Its outcome is known and waits to be reaped.
    pub(crate) done: bool,
}

/// A fixed array of entries with a free list through it.
#[derive(Debug)]
pub(crate) struct Slab {
    entries: Box<[Entry]>,
    free: u32,
    live: u32,
}

impl Slab {
    pub(crate) fn with_capacity(capacity: u32) -> Self {
        let entry = |index: u32| Entry {
            user: 0,
            file: 0,
            buffer: NO_BUFFER,
            generation: 0,
            next_free: if index + 1 < capacity {
                index + 1
            } else {
                NONE
            },
            cancelling: false,
            done: false,
        };
        Self {
            entries: (0..capacity).map(entry).collect(),
            free: if capacity == 0 { NONE } else { 0 },
            live: 0,
        }
    }

    #[inline]
    pub(crate) fn capacity(&self) -> u32 {
        self.entries.len() as u32
    }

    #[inline]
    pub(crate) fn live(&self) -> u32 {
        self.live
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.free == NONE
    }

    /// Takes an entry; `None` when all are taken.
    #[inline]
    pub(crate) fn insert(&mut self, user: u64, file: u32, buffer: u32) -> Option<Token> {
        let index = self.free;
        let entry = self.entries.get_mut(index as usize)?;
        self.free = entry.next_free;
        entry.generation = entry.generation.wrapping_add(1);
        entry.user = user;
        entry.file = file;
        entry.buffer = buffer;
        entry.cancelling = false;
        entry.done = false;
        self.live += 1;
        Some(Token::pack(index, entry.generation))
    }

    /// The entry that the token names, if its operation is still in flight.
    #[inline]
    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut Entry> {
        self.entries
            .get_mut(token.index() as usize)
            .filter(|entry| entry.generation == token.generation() && entry.generation & 1 == 1)
    }

    /// Gives the entry back; `None` if the token names none in flight.
    #[inline]
    pub(crate) fn remove(&mut self, token: Token) -> Option<Entry> {
        let free = self.free;
        let entry = self.get_mut(token)?;
        entry.generation = entry.generation.wrapping_add(1);
        entry.next_free = free;
        let removed = *entry;
        self.free = token.index();
        self.live -= 1;
        Some(removed)
    }

    /// The tokens of everything in flight.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        self.entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.generation & 1 == 1)
            .map(|(index, entry)| Token::pack(index as u32, entry.generation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_token_matches_nothing_again() {
        let mut slab = Slab::with_capacity(1);
        let first = slab.insert(7, 0, 0).unwrap();
        assert!(slab.is_full());
        assert_eq!(slab.insert(8, 0, 0), None);
        assert_eq!(slab.remove(first).unwrap().user, 7);
        assert!(
            slab.remove(first).is_none(),
            "a second completion must find nothing"
        );
        let second = slab.insert(9, 0, 0).unwrap();
        assert_ne!(first, second);
        assert!(
            slab.get_mut(first).is_none(),
            "the old token must not name the new tenant"
        );
        assert_eq!(slab.remove(second).unwrap().user, 9);
        assert_eq!(slab.live(), 0);
    }

    #[test]
    fn a_free_entry_is_not_named_by_its_even_generation() {
        let mut slab = Slab::with_capacity(2);
        assert!(slab.remove(Token::pack(0, 0)).is_none());
        assert!(slab.remove(Token::pack(2, 1)).is_none());
        assert!(slab.remove(Token(u64::MAX)).is_none());
        assert_eq!(slab.live(), 0);
    }

    #[test]
    fn tokens_lists_what_is_live() {
        let mut slab = Slab::with_capacity(3);
        let a = slab.insert(0, 0, 0).unwrap();
        let b = slab.insert(0, 0, 0).unwrap();
        slab.remove(a).unwrap();
        assert_eq!(slab.tokens().collect::<Vec<_>>(), [b]);
        assert_eq!(slab.capacity(), 3);
    }
}
