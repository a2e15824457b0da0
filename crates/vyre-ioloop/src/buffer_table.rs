//! The table of buffers. A buffer is held once, under however many handles.

use std::ops::{Range, RangeBounds};

use vyre_ioq::BufferHandle;
use vyre_uring::{Buffer, BufferSlot};

use crate::error::TableError;
use crate::handle_table::HandleTable;
use crate::ranges::buffer_range;
use crate::rights::Rights;

/// A byte range of a buffer, and what it may be used for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BufferEntry {
    pub(crate) slot: BufferSlot,
    /// Address of the buffer's first byte, for alignment checks alone.
    pub(crate) address: usize,
    pub(crate) base: u64,
    pub(crate) len: u64,
    pub(crate) rights: Rights,
}

/// One buffer, under however many handles.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) buffer: Buffer,
    pub(crate) entries: u32,
}

/// The memory that a device may name, each with a byte range and rights.
#[derive(Clone, Debug)]
pub struct BufferTable {
    pub(crate) entries: HandleTable<BufferEntry>,
    pub(crate) held: Vec<Option<Held>>,
}

impl BufferTable {
    /// An empty table.
    pub fn new() -> Self {
        Self {
            entries: HandleTable::new(),
            held: Vec::new(),
        }
    }

    /// Adds a whole buffer, for both directions. Keep a clone to look at the bytes.
    ///
    /// # Errors
    /// [`TableError::Full`].
    pub fn insert(&mut self, buffer: Buffer) -> Result<BufferHandle, TableError> {
        let range = 0..buffer.len() as u64;
        self.insert_range(buffer, range, Rights::READ | Rights::WRITE)
    }

    /// Adds a byte range of a buffer. A range without an end ends with the buffer.
    ///
    /// # Errors
    /// [`TableError::BadRange`] or [`TableError::Full`].
    pub fn insert_range(
        &mut self,
        buffer: Buffer,
        range: impl RangeBounds<u64>,
        rights: Rights,
    ) -> Result<BufferHandle, TableError> {
        let range = buffer_range(range, &buffer);
        let entry = self.entry(buffer, range, rights)?;
        let handle = self.entries.insert(entry);
        self.settle(entry, handle.is_ok());
        handle.map(BufferHandle::from_raw)
    }

    /// Adds a byte range of a buffer under a handle of the caller's choice. The low 20 bits of the
    /// handle are an index: keep them small.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn insert_at(
        &mut self,
        handle: BufferHandle,
        buffer: Buffer,
        range: impl RangeBounds<u64>,
        rights: Rights,
    ) -> Result<(), TableError> {
        let range = buffer_range(range, &buffer);
        let entry = self.entry(buffer, range, rights)?;
        let inserted = self.entries.insert_at(handle.raw(), entry);
        self.settle(entry, inserted.is_ok());
        inserted
    }

    /// Adds a buffer as equal pages, each under a handle of its own, in order: for devices that
    /// can say no buffer offset, as in the bare layout. What does not fill a page is left out.
    ///
    /// # Errors
    /// [`TableError::BadPage`] or [`TableError::Full`]; the table then has none of the pages.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the table keeps the buffer, as its siblings do"
    )]
    pub fn insert_pages(
        &mut self,
        buffer: Buffer,
        page: u64,
        rights: Rights,
    ) -> Result<Vec<BufferHandle>, TableError> {
        let len = buffer.len() as u64;
        if page == 0 || page > len {
            return Err(TableError::BadPage { page, len });
        }
        let mut pages = Vec::new();
        for index in 0..len / page {
            let range = index * page..(index + 1) * page;
            match self.insert_range(buffer.clone(), range, rights) {
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

    /// Takes out again an entry that no request can have used.
    fn remove_unused(&mut self, handle: BufferHandle) {
        let index = self.entries.get(handle.raw()).map(|(index, _)| index);
        if let Some(entry) = index.and_then(|index| self.entries.remove(index)) {
            self.let_go(entry.slot);
        }
    }

    /// Whether a range is one of a buffer's.
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
        rights: Rights,
    ) -> Result<BufferEntry, TableError> {
        Self::check(&buffer, &range)?;
        let address = buffer.as_ptr().addr();
        Ok(BufferEntry {
            slot: self.hold(buffer),
            address,
            base: range.start,
            len: range.end - range.start,
            rights,
        })
    }

    /// The slot of a buffer; a new one unless it is held already.
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

    /// Counts an entry in, or lets go of a buffer that no entry came to name.
    fn settle(&mut self, entry: BufferEntry, inserted: bool) {
        let place = &mut self.held[entry.slot.index() as usize];
        if let Some(held) = place {
            held.entries += u32::from(inserted);
            if held.entries == 0 {
                *place = None;
            }
        }
    }

    /// How many handles name a buffer.
    pub(crate) fn users(&self, slot: BufferSlot) -> u32 {
        match self.held.get(slot.index() as usize) {
            Some(Some(held)) => held.entries,
            _ => 0,
        }
    }

    /// Counts a removed entry out. Returns its buffer, if no handle of that is left.
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
