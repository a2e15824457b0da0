//! The operations in flight, by token.
//!
//! This is the only record of what is in flight. The operations on a file or a buffer are counted
//! from it only when a slot changes.

use crate::completion::Token;
use crate::error::RegisterError;
use crate::operation::{BufferSlot, FileSlot};

/// Ends the free list.
const NONE: u32 = u32::MAX;

/// Stands for "no buffer" in [`InFlight::buffer`].
pub(crate) const NO_BUFFER: u32 = u32::MAX;

/// One operation in flight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InFlight {
    /// The caller's own word.
    pub(crate) user: u64,
    /// Index of the file slot.
    pub(crate) file: u32,
    /// Index of the buffer slot, or [`NO_BUFFER`].
    pub(crate) buffer: u32,
    /// Odd while the entry is taken, even while it is free: no token of a free entry matches.
    generation: u32,
    next_free: u32,
    /// Set while a request to cancel the operation is unanswered.
    pub(crate) cancelling: bool,
    /// Set once the result is known and waits to be reaped.
    pub(crate) stashed: bool,
}

/// A fixed array of entries, with a free list through it.
#[derive(Debug)]
pub(crate) struct TokenTable {
    entries: Box<[InFlight]>,
    free: u32,
    len: u32,
}

impl TokenTable {
    pub(crate) fn with_capacity(capacity: u32) -> Self {
        let entry = |index: u32| InFlight {
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
            stashed: false,
        };
        Self {
            entries: (0..capacity).map(entry).collect(),
            free: if capacity == 0 { NONE } else { 0 },
            len: 0,
        }
    }

    #[inline]
    pub(crate) fn capacity(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Returns the number of operations in flight.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.free == NONE
    }

    /// Takes an entry. Returns `None` if all are taken.
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
        entry.stashed = false;
        self.len += 1;
        Some(Token::pack(index, entry.generation))
    }

    /// Returns the entry that the token names, if its operation is still in flight.
    #[inline]
    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut InFlight> {
        self.entries
            .get_mut(token.index() as usize)
            .filter(|entry| entry.generation == token.generation() && entry.generation & 1 == 1)
    }

    /// Frees the entry that the token names. Returns `None` if its operation is not in flight.
    #[inline]
    pub(crate) fn remove(&mut self, token: Token) -> Option<InFlight> {
        let free = self.free;
        let entry = self.get_mut(token)?;
        entry.generation = entry.generation.wrapping_add(1);
        entry.next_free = free;
        let removed = *entry;
        self.free = token.index();
        self.len -= 1;
        Some(removed)
    }

    /// Returns the tokens of all operations in flight.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        self.taken()
            .map(|(index, entry)| Token::pack(index, entry.generation))
    }

    /// Checks that no operation on a file slot is in flight. Visits every entry.
    ///
    /// # Errors
    /// [`RegisterError::Busy`] if one is.
    pub(crate) fn check_file_idle(&self, slot: FileSlot) -> Result<(), RegisterError> {
        self.check_idle(|operation| operation.file == slot.index())
    }

    /// Checks that no operation on a buffer slot is in flight. Visits every entry.
    ///
    /// # Errors
    /// [`RegisterError::Busy`] if one is.
    pub(crate) fn check_buffer_idle(&self, slot: BufferSlot) -> Result<(), RegisterError> {
        self.check_idle(|operation| operation.buffer == slot.index())
    }

    fn check_idle(&self, uses: impl Fn(&InFlight) -> bool) -> Result<(), RegisterError> {
        match self.taken().filter(|(_, entry)| uses(entry)).count() as u32 {
            0 => Ok(()),
            in_flight => Err(RegisterError::Busy { in_flight }),
        }
    }

    fn taken(&self) -> impl Iterator<Item = (u32, &InFlight)> {
        (0..)
            .zip(&self.entries)
            .filter(|(_, entry)| entry.generation & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_token_matches_nothing_again() {
        let mut table = TokenTable::with_capacity(1);
        let first = table.insert(7, 0, 0).unwrap();
        assert!(table.is_full());
        assert_eq!(table.insert(8, 0, 0), None);
        assert_eq!(table.remove(first).unwrap().user, 7);
        assert!(
            table.remove(first).is_none(),
            "a second completion must find nothing"
        );
        let second = table.insert(9, 0, 0).unwrap();
        assert_ne!(first, second);
        assert!(
            table.get_mut(first).is_none(),
            "the old token must not name the new operation"
        );
        assert_eq!(table.remove(second).unwrap().user, 9);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_free_entry_is_not_named_by_its_even_generation() {
        let mut table = TokenTable::with_capacity(2);
        assert!(table.remove(Token::pack(0, 0)).is_none());
        assert!(table.remove(Token::pack(2, 1)).is_none());
        assert!(table.remove(Token::from_raw(u64::MAX)).is_none());
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn tokens_lists_what_is_in_flight() {
        let mut table = TokenTable::with_capacity(3);
        let a = table.insert(0, 0, 0).unwrap();
        let b = table.insert(0, 0, 0).unwrap();
        table.remove(a).unwrap();
        assert_eq!(table.tokens().collect::<Vec<_>>(), [b]);
        assert_eq!(table.capacity(), 3);
    }

    #[test]
    fn a_slot_counts_its_own_operations_until_they_are_removed() {
        let mut table = TokenTable::with_capacity(4);
        let read = table.insert(0, 1, 2).unwrap();
        table.insert(0, 1, NO_BUFFER).unwrap();
        table.insert(0, 0, 2).unwrap();
        let busy = |in_flight| Err(RegisterError::Busy { in_flight });
        let file = |table: &TokenTable, slot| table.check_file_idle(FileSlot::new(slot));
        let buffer = |table: &TokenTable, slot| table.check_buffer_idle(BufferSlot::new(slot));
        assert_eq!(
            [0, 1, 2].map(|slot| file(&table, slot)),
            [busy(1), busy(2), Ok(())]
        );
        assert_eq!([1, 2].map(|slot| buffer(&table, slot)), [Ok(()), busy(2)]);
        table.remove(read).unwrap();
        assert_eq!((file(&table, 1), buffer(&table, 2)), (busy(1), busy(1)));
    }
}
