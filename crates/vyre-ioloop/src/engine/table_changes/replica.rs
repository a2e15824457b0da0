//! An engine's tables as one of several replicas, whose handles the [`LoopGroup`](crate::LoopGroup)
//! chooses.

use std::ops::Range;

use vyre_ioq::{BufferHandle, FileHandle};
use vyre_uring::{Buffer, Transport};

use super::Revocation;
use crate::buffer_options::BufferOptions;
use crate::engine::Engine;
use crate::error::TableError;
use crate::file_table::FileEntry;

/// One of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Buffer,
}

/// A handle of either table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) kind: Kind,
    pub(crate) handle: u32,
}

impl From<FileHandle> for Named {
    fn from(handle: FileHandle) -> Self {
        Self {
            kind: Kind::File,
            handle: handle.raw(),
        }
    }
}

impl From<BufferHandle> for Named {
    fn from(handle: BufferHandle) -> Self {
        Self {
            kind: Kind::Buffer,
            handle: handle.raw(),
        }
    }
}

/// An entry for every replica. Clones share the open file or the buffer. For each loop but the first,
/// the group reopens the file where possible.
#[derive(Clone, Debug)]
pub(crate) enum NewEntry {
    File(FileEntry),
    Buffer {
        buffer: Buffer,
        range: Range<u64>,
        options: BufferOptions,
    },
}

impl NewEntry {
    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::File(_) => Kind::File,
            Self::Buffer { .. } => Kind::Buffer,
        }
    }
}

impl<T: Transport> Engine<T> {
    /// Adds a hidden entry under a handle: no request finds it before it is revealed. If the table or
    /// the transport refuses it, the entry leaves no trace.
    pub(crate) fn stage(&mut self, handle: u32, entry: NewEntry) -> Result<(), TableError> {
        match entry {
            NewEntry::File(entry) => {
                self.state.files.insert_entry_at(handle, entry)?;
                self.register_file(handle)?;
                self.state.files.entries.hide(handle);
            }
            NewEntry::Buffer {
                buffer,
                range,
                options,
            } => {
                let buffers = &mut self.state.buffers;
                let chosen = BufferHandle::from_raw(handle);
                buffers.insert_at(chosen, buffer.clone(), range, options)?;
                self.register_buffer(handle, buffer)?;
                self.state.buffers.entries.hide(handle);
            }
        }
        Ok(())
    }

    /// Reveals a staged entry to requests, from the next claim on.
    pub(crate) fn reveal(&mut self, named: Named) -> Result<(), TableError> {
        let handle = named.handle;
        let revealed = match named.kind {
            Kind::File => self.state.files.entries.reveal(handle).is_some(),
            Kind::Buffer => self.state.buffers.entries.reveal(handle).is_some(),
        };
        revealed.then_some(()).ok_or(TableError::Unknown { handle })
    }

    /// Removes a staged entry, on which nothing was ever in flight.
    pub(crate) fn withdraw(&mut self, named: Named) -> Result<(), TableError> {
        let handle = named.handle;
        let unknown = TableError::Unknown { handle };
        match named.kind {
            Kind::File => {
                let index = self.state.files.entries.hidden(handle).ok_or(unknown)?;
                self.state.reclaimable.files.push(index);
            }
            Kind::Buffer => {
                let index = self.state.buffers.entries.hidden(handle).ok_or(unknown)?;
                self.state.reclaimable.buffers.push(index);
            }
        }
        self.reclaim();
        Ok(())
    }

    /// Revokes a handle of either table.
    pub(crate) fn revoke(&mut self, named: Named) -> Result<Revocation, TableError> {
        match named.kind {
            Kind::File => self.revoke_file(FileHandle::from_raw(named.handle)),
            Kind::Buffer => self.revoke_buffer(BufferHandle::from_raw(named.handle)),
        }
    }
}
