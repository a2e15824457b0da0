//! The table of buffers. A buffer is held once, whatever the number of its handles.

use std::ops::{Range, RangeBounds};

use vyre_ioq::BufferHandle;
use vyre_uring::{Buffer, BufferSlot};

use crate::buffer_options::BufferOptions;
use crate::error::TableError;
use crate::handle_table::HandleTable;
use crate::queue_id::QueueId;
use crate::ranges::buffer_range;
use crate::rights::Rights;

/// A byte range of a buffer, with rights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BufferEntry {
    pub(crate) slot: BufferSlot,
    /// The address of the buffer's first byte, for alignment checks only.
    pub(crate) address: usize,
    pub(crate) base: u64,
    pub(crate) len: u64,
    pub(crate) rights: Rights,
    /// The queue whose requests alone find the entry, if there is one.
    pub(crate) queue: Option<QueueId>,
}

/// A buffer, with the number of its handles.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) buffer: Buffer,
    pub(crate) entries: u32,
}

/// The buffers that a device may name, each with a byte range and rights.
#[derive(Clone, Debug)]
pub struct BufferTable {
    pub(crate) entries: HandleTable<BufferEntry>,
    pub(crate) held: Vec<Option<Held>>,
}

impl BufferTable {
    /// Creates an empty table.
    pub fn new() -> Self {
        Self {
            entries: HandleTable::new(),
            held: Vec::new(),
        }
    }

    /// Adds a whole buffer, for both directions. Keep a clone of the buffer to access its bytes.
    ///
    /// # Errors
    /// [`TableError::Full`] if the table has no free index.
    pub fn insert(&mut self, buffer: Buffer) -> Result<BufferHandle, TableError> {
        let range = 0..buffer.len() as u64;
        self.insert_range(buffer, range, Rights::READ | Rights::WRITE)
    }

    /// Adds a byte range of a buffer. A range without an end extends to the end of the buffer.
    ///
    /// # Errors
    /// - [`TableError::BadRange`] if the range is reversed or ends past the buffer.
    /// - [`TableError::Full`] if the table has no free index.
    pub fn insert_range(
        &mut self,
        buffer: Buffer,
        range: impl RangeBounds<u64>,
        options: impl Into<BufferOptions>,
    ) -> Result<BufferHandle, TableError> {
        let range = buffer_range(range, &buffer);
        let entry = self.entry(buffer, range, options.into())?;
        let handle = self.entries.insert(entry);
        self.count_entry(entry, handle.is_ok());
        handle.map(BufferHandle::from_raw)
    }

    /// Adds a byte range of a buffer under a handle of the caller's choice. The low 20 bits of the
    /// handle are an index: keep them small to save memory.
    ///
    /// # Errors
    /// The same as for [`insert_range`](Self::insert_range), and [`TableError::Taken`] if an entry has
    /// the handle's index.
    pub fn insert_at(
        &mut self,
        handle: BufferHandle,
        buffer: Buffer,
        range: impl RangeBounds<u64>,
        options: impl Into<BufferOptions>,
    ) -> Result<(), TableError> {
        let range = buffer_range(range, &buffer);
        let entry = self.entry(buffer, range, options.into())?;
        let inserted = self.entries.insert_at(handle.raw(), entry);
        self.count_entry(entry, inserted.is_ok());
        inserted
    }

    /// Adds a buffer as pages of equal size, each under its own handle, in order. This is for
    /// devices that cannot give a buffer offset, as in the bare layout. A partial page at the end
    /// is left out.
    ///
    /// # Errors
    /// - [`TableError::BadPage`] if the page size is zero or larger than the buffer.
    /// - [`TableError::Full`] if the table has too few free indices. It then has none of the pages.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the table keeps the buffer, as its siblings do"
    )]
    pub fn insert_pages(
        &mut self,
        buffer: Buffer,
        page: u64,
        options: impl Into<BufferOptions>,
    ) -> Result<Vec<BufferHandle>, TableError> {
        let (len, options) = (buffer.len() as u64, options.into());
        if page == 0 || page > len {
            return Err(TableError::BadPage { page, len });
        }
        let mut pages = Vec::new();
        for index in 0..len / page {
            let range = index * page..(index + 1) * page;
            match self.insert_range(buffer.clone(), range, options) {
                Ok(handle) => pages.push(handle),
                Err(error) => {
                    // Nobody would know the handles.
                    for handle in pages {
                        self.remove_unused(handle);
                    }
                    return Err(error);
                }
            }
        }
        Ok(pages)
    }

    /// Removes an entry that no request can have used.
    fn remove_unused(&mut self, handle: BufferHandle) {
        let index = self.entries.get(handle.raw()).map(|(index, _)| index);
        if let Some(entry) = index.and_then(|index| self.entries.remove(index)) {
            self.let_go(entry.slot);
        }
    }

    /// Returns whether a range lies within a buffer.
    pub(crate) fn check(buffer: &Buffer, range: &Range<u64>) -> Result<(), TableError> {
        let end = buffer.len() as u64;
        if range.start > range.end || range.end > end {
            let range = range.clone();
            return Err(TableError::BadRange { range, end });
        }
        Ok(())
    }

    fn entry(
        &mut self,
        buffer: Buffer,
        range: Range<u64>,
        options: BufferOptions,
    ) -> Result<BufferEntry, TableError> {
        Self::check(&buffer, &range)?;
        let address = buffer.as_ptr().addr();
        Ok(BufferEntry {
            slot: self.hold(buffer),
            address,
            base: range.start,
            len: range.end - range.start,
            rights: options.rights,
            queue: options.queue,
        })
    }

    /// Returns the slot of a buffer, or a new slot if the buffer is not held yet.
    fn hold(&mut self, buffer: Buffer) -> BufferSlot {
        let known = self
            .held
            .iter()
            .position(|held| matches!(held, Some(held) if held.buffer.same_memory(&buffer)));
        let index = known.unwrap_or_else(|| {
            let held = Some(Held { buffer, entries: 0 });
            match self.held.iter().position(Option::is_none) {
                Some(free) => {
                    self.held[free] = held;
                    free
                }
                None => {
                    self.held.push(held);
                    self.held.len() - 1
                }
            }
        });
        BufferSlot::new(index as u32)
    }

    /// Counts an entry that was inserted. Releases the buffer if no entry names it.
    fn count_entry(&mut self, entry: BufferEntry, inserted: bool) {
        let place = &mut self.held[entry.slot.index() as usize];
        if let Some(held) = place {
            held.entries += u32::from(inserted);
            if held.entries == 0 {
                *place = None;
            }
        }
    }

    /// Returns the number of handles that name a buffer.
    pub(crate) fn users(&self, slot: BufferSlot) -> u32 {
        match self.held.get(slot.index() as usize) {
            Some(Some(held)) => held.entries,
            _ => 0,
        }
    }

    /// Counts a removed entry. Returns its buffer if no handle is left.
    pub(crate) fn let_go(&mut self, slot: BufferSlot) -> Option<Buffer> {
        let place = &mut self.held[slot.index() as usize];
        let held = place.as_mut()?;
        held.entries -= 1;
        if held.entries > 0 {
            return None;
        }
        place.take().map(|held| held.buffer)
    }
}

impl Default for BufferTable {
    fn default() -> Self {
        Self::new()
    }
}
