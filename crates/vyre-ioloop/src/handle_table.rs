//! A table of capabilities, from handle to entry. Generations ensure that a revoked handle stays
//! unknown.

use std::collections::VecDeque;

use crate::error::TableError;

/// The bits of a handle that hold the entry's index. The others count its reuses.
const INDEX_BITS: u32 = 20;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;
const GENERATIONS: u32 = 1 << (u32::BITS - INDEX_BITS);
const INDICES: usize = 1 << INDEX_BITS;

#[derive(Clone, Debug)]
struct IndexState<E> {
    /// The handle of the entry, or of the next entry at this index.
    handle: u32,
    entry: Option<E>,
    /// True while requests cannot find the entry: it was revoked and waits for requests in flight, or it
    /// is not revealed yet.
    hidden: bool,
    /// The requests in flight on the entry, counted when it is revoked. No request can use it after
    /// that, so a request on an entry that stays need not be counted.
    users: u32,
}

/// Entries under 32-bit handles. A look-up is one bounds check and one comparison.
#[derive(Clone, Debug)]
pub(crate) struct HandleTable<E> {
    indices: Vec<IndexState<E>>,
    free: Vec<u32>,
    /// Free indices that have used every generation, longest retired first. They are used again only if
    /// there is no other, because their handles then repeat.
    retired: VecDeque<u32>,
    /// The number of revoked entries that are still in use.
    lingering: u32,
    /// The largest number of indices.
    limit: usize,
}

impl<E> HandleTable<E> {
    /// Index 0 is not given out, so that a zeroed request names nothing.
    pub(crate) fn new() -> Self {
        Self::with_limit(INDICES)
    }

    /// Creates a table of at most `limit` indices.
    pub(crate) fn with_limit(limit: usize) -> Self {
        let mut table = Self {
            indices: Vec::new(),
            free: Vec::new(),
            retired: VecDeque::new(),
            lingering: 0,
            limit,
        };
        table.grow_to(1);
        table
    }

    /// Adds an entry under a new handle.
    pub(crate) fn insert(&mut self, entry: E) -> Result<u32, TableError> {
        let index = match self.free.pop() {
            Some(index) => index as usize,
            None if self.indices.len() < self.limit => {
                self.grow_to(self.indices.len() + 1);
                self.indices.len() - 1
            }
            None => self.retired.pop_front().ok_or(TableError::Full)? as usize,
        };
        let state = &mut self.indices[index];
        state.entry = Some(entry);
        Ok(state.handle)
    }

    /// Adds an entry under a handle of the caller's choice.
    pub(crate) fn insert_at(&mut self, handle: u32, entry: E) -> Result<(), TableError> {
        let index = handle & INDEX_MASK;
        if index as usize >= self.indices.len() {
            let fresh = self.indices.len() as u32..index;
            self.grow_to(index as usize + 1);
            self.free.extend(fresh);
        } else if self.indices[index as usize].entry.is_some() {
            return Err(TableError::Taken { handle });
        }
        self.free.retain(|&free| free != index);
        self.retired.retain(|&retired| retired != index);
        let state = &mut self.indices[index as usize];
        state.handle = handle;
        state.entry = Some(entry);
        Ok(())
    }

    fn grow_to(&mut self, len: usize) {
        let first = self.indices.len();
        self.indices.extend((first..len).map(|index| IndexState {
            handle: index as u32,
            entry: None,
            hidden: false,
            users: 0,
        }));
    }

    /// Returns the entry that a handle names, and its index.
    #[inline]
    pub(crate) fn get(&self, handle: u32) -> Option<(u32, &E)> {
        let index = handle & INDEX_MASK;
        let state = self.indices.get(index as usize)?;
        match &state.entry {
            Some(entry) if state.handle == handle && !state.hidden => Some((index, entry)),
            _ => None,
        }
    }

    /// Returns the entry at an index from `get`, even if it was revoked since.
    #[inline]
    pub(crate) fn at(&self, index: u32) -> Option<&E> {
        self.indices.get(index as usize)?.entry.as_ref()
    }

    /// Counts the end of a request on an entry. Returns whether the entry was revoked and can now be
    /// removed.
    #[inline]
    pub(crate) fn release(&mut self, index: u32) -> bool {
        self.lingering > 0 && self.release_lingering(index)
    }

    #[cold]
    fn release_lingering(&mut self, index: u32) -> bool {
        match self.indices.get_mut(index as usize) {
            Some(state) if state.users > 0 => {
                state.users -= 1;
                self.lingering -= u32::from(state.users == 0);
                state.users == 0
            }
            _ => false,
        }
    }

    /// Counts the end of all requests on an entry, at shutdown.
    pub(crate) fn release_all(&mut self, index: u32) {
        if let Some(state) = self.indices.get_mut(index as usize) {
            self.lingering -= u32::from(state.users > 0);
            state.users = 0;
        }
    }

    /// Makes a handle unknown. `users` counts the requests in flight on the entry at an index. If the
    /// handle was known, returns its index and whether the entry can be removed at once.
    pub(crate) fn revoke(
        &mut self,
        handle: u32,
        users: impl FnOnce(u32) -> u32,
    ) -> Option<(u32, bool)> {
        let (index, _) = self.get(handle)?;
        let state = &mut self.indices[index as usize];
        state.hidden = true;
        state.users = users(index);
        self.lingering += u32::from(state.users > 0);
        Some((index, state.users == 0))
    }

    /// Hides an entry that no request has used, until it is revealed or removed.
    pub(crate) fn hide(&mut self, handle: u32) {
        let hidden = self.revoke(handle, |_| 0);
        debug_assert!(hidden.is_some(), "{handle:#x} names nothing to hide");
    }

    /// Returns the index of an entry that is hidden and not revoked.
    pub(crate) fn hidden(&self, handle: u32) -> Option<u32> {
        let index = handle & INDEX_MASK;
        let state = self.indices.get(index as usize)?;
        let is_hidden = state.hidden && state.users == 0 && state.entry.is_some();
        (state.handle == handle && is_hidden).then_some(index)
    }

    /// Returns the index of an entry that is revoked and still in use.
    pub(crate) fn revoked(&self, handle: u32) -> Option<u32> {
        let index = handle & INDEX_MASK;
        let state = self.indices.get(index as usize)?;
        (state.handle == handle && state.users > 0).then_some(index)
    }

    /// Reveals a hidden entry to requests, and returns it.
    pub(crate) fn reveal(&mut self, handle: u32) -> Option<&mut E> {
        let index = self.hidden(handle)?;
        let state = &mut self.indices[index as usize];
        state.hidden = false;
        state.entry.as_mut()
    }

    /// Returns a table with the same used and free handles, and with other entries.
    pub(crate) fn map<F>(&self, entry: impl Fn(&E) -> F) -> HandleTable<F> {
        let indices = self.indices.iter().map(|state| IndexState {
            handle: state.handle,
            entry: state.entry.as_ref().map(&entry),
            hidden: state.hidden,
            users: state.users,
        });
        HandleTable {
            indices: indices.collect(),
            free: self.free.clone(),
            retired: self.retired.clone(),
            lingering: self.lingering,
            limit: self.limit,
        }
    }

    /// Removes an entry on which nothing is in flight. Its index is reused under another handle. An
    /// index that has used every handle is retired until no other index is left.
    pub(crate) fn remove(&mut self, index: u32) -> Option<E> {
        let state = self.indices.get_mut(index as usize)?;
        debug_assert_eq!(state.users, 0, "removed while in use");
        let entry = state.entry.take()?;
        state.hidden = false;
        let generation = (state.handle >> INDEX_BITS) + 1;
        if generation < GENERATIONS {
            state.handle = generation << INDEX_BITS | index;
            self.free.push(index);
        } else {
            // Handle 0 is never given out.
            let first = u32::from(index == 0);
            state.handle = first << INDEX_BITS | index;
            self.retired.push_back(index);
        }
        Some(entry)
    }

    /// Returns every entry that has not been removed, with its index.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &E)> {
        self.indices
            .iter()
            .zip(0..)
            .filter_map(|(state, index)| Some((index, state.entry.as_ref()?)))
    }

    /// Returns the number of entries that have not been removed.
    pub(crate) fn len(&self) -> usize {
        self.iter().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_entry_s_handle_never_names_its_successor() {
        let mut table = HandleTable::new();
        let old = table.insert('a').expect("room");
        let (index, at_once) = table.revoke(old, |_| 0).expect("known");
        assert!(at_once);
        assert_eq!(table.get(old), None, "revoked");
        assert_eq!(table.remove(index), Some('a'));
        let new = table.insert('b').expect("room");
        assert_eq!(new & INDEX_MASK, index, "the state is reused");
        assert_eq!(table.get(old), None);
        assert_eq!(table.get(new), Some((index, &'b')));
    }

    #[test]
    fn a_place_that_has_had_every_handle_is_retired() {
        let mut table = HandleTable::new();
        let mut handles = std::collections::HashSet::new();
        for _ in 0..2 * GENERATIONS {
            let handle = table.insert(()).expect("room");
            assert!(handles.insert(handle), "{handle:#x} twice");
            let (index, _) = table.revoke(handle, |_| 0).expect("known");
            table.remove(index);
        }
    }

    #[test]
    fn the_longest_retired_place_is_used_again_when_no_other_is_left() {
        let mut table = HandleTable::with_limit(4);
        let mut last_use = std::collections::HashMap::new();
        let mut shortest = usize::MAX;
        for turn in 0..10 * GENERATIONS as usize {
            let handle = table.insert(()).expect("there is always a state");
            assert_ne!(handle, 0);
            if let Some(before) = last_use.insert(handle, turn) {
                shortest = shortest.min(turn - before);
            }
            let (index, _) = table.revoke(handle, |_| 0).expect("known");
            table.remove(index);
        }
        assert_eq!(
            shortest,
            3 * GENERATIONS as usize,
            "all other handles came first"
        );
    }

    #[test]
    fn a_full_table_says_so() {
        let mut table = HandleTable::with_limit(3);
        assert_eq!([(); 2].map(|()| table.insert(())), [Ok(1), Ok(2)]);
        assert_eq!(table.insert(()), Err(TableError::Full));
    }

    #[test]
    fn zero_names_nothing_until_somebody_chooses_it() {
        let mut table = HandleTable::new();
        assert_eq!(table.insert('a'), Ok(1));
        assert_eq!(table.get(0), None);
        assert_eq!(table.insert_at(0, 'z'), Ok(()));
        assert_eq!(table.get(0), Some((0, &'z')));
        assert_eq!(
            table.insert_at(0, 'y'),
            Err(TableError::Taken { handle: 0 })
        );
    }

    #[test]
    fn chosen_handles_leave_the_gap_for_others() {
        let mut table = HandleTable::new();
        table.insert_at(5, 'f').expect("free");
        let others: Vec<u32> = (0..4).map(|_| table.insert('o').expect("room")).collect();
        assert!(others.iter().all(|&handle| handle < 5), "{others:?}");
        assert_eq!(table.insert('n'), Ok(6));
    }

    #[test]
    fn a_hidden_entry_is_found_once_it_is_revealed() {
        let mut table = HandleTable::new();
        let handle = table.insert('a').expect("room");
        table.hide(handle);
        assert_eq!(table.get(handle), None);
        assert_eq!(table.hidden(handle), Some(1));
        assert_eq!(table.insert('b'), Ok(2), "its state is taken");
        assert_eq!(table.reveal(handle), Some(&mut 'a'));
        assert_eq!(table.get(handle), Some((1, &'a')));
        assert_eq!(table.reveal(handle), None, "it is not hidden");
        table.revoke(handle, |_| 1);
        assert_eq!(table.reveal(handle), None, "revoked is for ever");
    }

    #[test]
    fn a_mapped_table_goes_on_with_the_same_handles() {
        let mut table = HandleTable::new();
        for entry in ['a', 'b', 'c'] {
            table.insert(entry).expect("room");
        }
        table.revoke(2, |_| 0);
        table.remove(2);
        let mut lengths = table.map(|_| ());
        assert_eq!(lengths.get(1), Some((1, &())));
        assert_eq!(lengths.get(2), None);
        let next = table.insert('d').expect("room");
        assert_eq!(lengths.insert(()), Ok(next));
    }

    #[test]
    fn a_revoked_entry_lingers_while_it_is_used() {
        let mut table = HandleTable::new();
        let handle = table.insert('a').expect("room");
        let (index, _) = table.get(handle).expect("known");
        assert!(!table.release(index), "nobody waits for it");
        assert_eq!(table.revoke(handle, |_| 2), Some((index, false)));
        assert_eq!(table.revoked(handle), Some(index));
        assert!(!table.release(index), "one is left");
        assert_eq!(table.at(index), Some(&'a'));
        assert!(table.release(index), "the last user lets it go");
        assert_eq!(table.revoked(handle), None);
        assert_eq!(table.remove(index), Some('a'));
    }
}
